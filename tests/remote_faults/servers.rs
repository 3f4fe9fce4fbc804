//! Real servers on the loopback, for places that a proxy stands before.

use super::support::{SOON, until};
use bakfs::store::place::{Place, Remote};
use bakfs::store::remote::{Environment, Policy, RemoteOptions, RemoteStore};
use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

const BUCKET: &str = "faults";
const KEY_ID: &str = "id-of-the-tests";
const KEY: &str = "key-of-the-tests";

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// S3, of rclone.
    S3,
    /// WebDAV, of rclone.
    WebDav,
}

/// A server with a folder of its own, both gone at the end.
pub struct Server {
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server on a free port.
    pub fn start(protocol: Protocol) -> Server {
        let folder = tempfile::Builder::new().prefix("bakfs-server-").tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("root").join(BUCKET)).unwrap();
        let words = folder.path().join("words");
        let program = std::env::var_os("RCLONE").unwrap_or_else(|| "rclone".into());
        let mut command = Command::new(program);
        match protocol {
            Protocol::S3 => command.args(["serve", "s3", "--auth-key", &format!("{KEY_ID},{KEY}")]),
            Protocol::WebDav => command.args(["serve", "webdav", "--user", KEY_ID, "--pass", KEY]),
        };
        command.args(["--addr", "127.0.0.1:0"]).arg(folder.path().join("root"));
        command.env_clear().env("HOME", folder.path()).env("XDG_CACHE_HOME", folder.path().join("cache"));
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&words).unwrap());
        let child = command.spawn().expect("rclone is installed (tests/run), or RCLONE names it");
        let mut address = None;
        until("the server listens", SOON, || {
            let text = std::fs::read_to_string(&words).unwrap();
            // It says `server started on [http://127.0.0.1:40000/]`.
            let after = text.split("http://").nth(1).and_then(|rest| rest.split(['/', ']', ' ', '\n']).next());
            address = after.and_then(|text| text.parse().ok());
            address.is_some()
        });
        Server { protocol, address: address.unwrap(), child, _folder: folder }
    }

    /// Returns a store below a prefix, reached at an address: the server's own or that of a proxy before it.
    pub fn store(&self, at: SocketAddr, prefix: &str, policy: Policy) -> RemoteStore {
        let endpoint = format!("http://{at}");
        let (url, environment) = match self.protocol {
            Protocol::S3 => {
                let pairs =
                    [("AWS_ENDPOINT_URL", &*endpoint), ("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", KEY)];
                (format!("s3://{BUCKET}/{prefix}"), Environment::of(pairs))
            }
            Protocol::WebDav => {
                let pairs = [("WEBDAV_USER", KEY_ID), ("WEBDAV_PASSWORD", KEY)];
                (format!("webdav://{at}/{BUCKET}/{prefix}"), Environment::of(pairs))
            }
        };
        RemoteStore::with_policy(&remote(&url), &RemoteOptions::default(), environment, policy).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn remote(url: &str) -> Remote {
    match Place::parse(url).unwrap() {
        Place::Remote(remote) => remote,
        Place::Local(path) => panic!("{} is not far away", path.display()),
    }
}
