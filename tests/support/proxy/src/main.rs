//! The proxy as a program, for benches. It writes `{"listens": "127.0.0.1:PORT"}`, then one line of figures for each
//! line that it reads: what has passed since the line before. It ends with its standard input.

use bakfs_proxy::cable::Length;
use bakfs_proxy::{http, plain};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::time::Duration;

const USAGE: &str = "usage: proxy --to ADDRESS:PORT [--listen ADDRESS:PORT] [--rtt-ms N] [--mib-per-sec N] [--plain]

  --to           the server
  --listen       where clients connect (default 127.0.0.1:0, a free port)
  --rtt-ms       round trip time between client and proxy (default 0)
  --mib-per-sec  bandwidth of each direction (default unlimited)
  --plain        any protocol, not HTTP: counts connections and bytes only";

struct Options {
    to: SocketAddr,
    listen: SocketAddr,
    length: Length,
    is_plain: bool,
}

enum Proxy {
    Http(http::Proxy),
    Plain(plain::Proxy),
}

impl Proxy {
    fn start(options: &Options) -> std::io::Result<Proxy> {
        let Options { to, listen, length, is_plain } = *options;
        if is_plain {
            plain::Proxy::listen(listen, to, length).map(Proxy::Plain)
        } else {
            http::Proxy::listen(listen, to, length).map(Proxy::Http)
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Proxy::Http(proxy) => proxy.address(),
            Proxy::Plain(proxy) => proxy.address(),
        }
    }

    fn figures(&self, round_trip: Duration) -> Value {
        match self {
            Proxy::Http(proxy) => proxy.take_record().figures(round_trip),
            Proxy::Plain(proxy) => {
                let passed = proxy.take_passed();
                json!({"connections": passed.connections, "sent_bytes": passed.up_bytes,
                       "received_bytes": passed.down_bytes})
            }
        }
    }
}

fn options() -> Result<Options, Box<dyn Error>> {
    let (mut to, mut listen) = (None, SocketAddr::from(([127, 0, 0, 1], 0)));
    let (mut length, mut is_plain) = (Length::default(), false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--to" => to = Some(value()?.parse()?),
            "--listen" => listen = value()?.parse()?,
            "--rtt-ms" => length.round_trip = Duration::from_millis(value()?.parse()?),
            "--mib-per-sec" => length.bytes_per_sec = Some(value()?.parse::<u64>()? << 20),
            "--plain" => is_plain = true,
            _ => return Err(format!("unknown argument {arg}").into()),
        }
    }
    Ok(Options { to: to.ok_or("--to is missing")?, listen, length, is_plain })
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let proxy = Proxy::start(options)?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", json!({"listens": proxy.address().to_string()}))?;
    for line in std::io::stdin().lock().lines() {
        line?;
        writeln!(out, "{}", proxy.figures(options.length.round_trip))?;
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let result = options().map_err(|error| format!("{error}\n{USAGE}").into()).and_then(|options| run(&options));
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
