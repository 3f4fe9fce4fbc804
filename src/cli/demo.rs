//! `bakfs demo`: the product in a minute, with real commands on a temporary repository.

use super::Status;
use crate::error::{Context, Error, ErrorKind};
use crate::process::program;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Options of `bakfs demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave the repository and the mount when done
    #[arg(long)]
    keep: bool,
}

/// Lines of trouble that are shown; an ordinary user cannot read all of /etc.
const SHOWN_TROUBLES: usize = 3;

/// The tables of a small shop, and one night's sales on top of it.
const SHOP: &str = "CREATE TABLE sales (id INTEGER PRIMARY KEY, item TEXT, cents INTEGER);
INSERT INTO sales (item, cents) VALUES ('lamp', 4900), ('chair', 12900), ('table', 34900);";
const MORE_SALES: &str = "INSERT INTO sales (item, cents) VALUES ('lamp', 4900);";

struct Demo {
    base: PathBuf,
    program: PathBuf,
}

impl Demo {
    fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// Makes a command of this program on the demo's repository.
    fn bakfs(&self, arguments: &[&OsStr]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        for (variable, name) in [
            ("BAKFS_REPO", "repository"),
            ("BAKFS_CACHE_DIR", "cache"),
            ("BAKFS_CONFIG_DIR", "config"),
            ("BAKFS_STATE_DIR", "state"),
        ] {
            command.env(variable, self.path(name));
        }
        for variable in ["BAKFS_CONFIG", "BAKFS_PASSWORD", "BAKFS_PASSWORD_FILE"] {
            command.env_remove(variable);
        }
        command
    }

    /// Shows a command as a person would type it, runs it, and shows what it prints.
    fn show(&self, command: &mut Command, accepted: &[i32]) -> Result<(), Error> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted = |word: &OsStr| {
            let word = self.shorten(&word.to_string_lossy());
            if word.contains([' ', '?', '*']) { format!("'{word}'") } else { word }
        };
        let line: Vec<String> = words.map(quoted).collect();
        say!("\n$ {}", line.join(" "));
        let doing = || format!("Cannot run `{}`", line.join(" "));
        let output = command.current_dir(&self.base).stdin(Stdio::null()).output().context(doing)?;
        // As a terminal would show it: troubles come on the way, a summary at the end.
        let said = String::from_utf8_lossy(&output.stderr);
        for said in said.lines().take(SHOWN_TROUBLES) {
            say!("{}", self.shorten(said));
        }
        if said.lines().count() > SHOWN_TROUBLES {
            say!("... and {} more like these", said.lines().count() - SHOWN_TROUBLES);
        }
        String::from_utf8_lossy(&output.stdout).lines().for_each(|line| say!("{}", self.shorten(line)));
        match output.status.code() {
            Some(code) if accepted.contains(&code) => Ok(()),
            _ => Err(Error::new(ErrorKind::Io, format!("`{}` failed: {}", line.join(" "), output.status))),
        }
    }

    fn shorten(&self, text: &str) -> String {
        text.replace(&self.program.to_string_lossy().into_owned(), "bakfs")
    }

    /// Runs SQL on the demo's database; false where this machine has nothing that can.
    fn sql(&self, database: &Path, text: &str) -> bool {
        let python =
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.executescript(sys.argv[2]); db.commit()";
        let run = |program: &str, arguments: &[&OsStr]| {
            let quiet = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
            quiet.is_ok_and(|status| status.success())
        };
        run("sqlite3", &[database.as_os_str(), text.as_ref()])
            || run("python3", &["-c".as_ref(), python.as_ref(), database.as_os_str(), text.as_ref()])
    }
}

/// Says what is missing for a mount, and how to get it.
fn check_fuse() -> Result<(), Error> {
    let missing = |what: &str| Err(Error::new(ErrorKind::Unsupported, what.to_string()));
    if !Path::new("/dev/fuse").exists() {
        return missing(
            "This machine has no /dev/fuse: `modprobe fuse` as root makes it (a container must be given the device)",
        );
    }
    // Its mode may keep others out, as in a container (open(2), EACCES; a device that is not given fails with EPERM).
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        return missing(&format!(
            "This user cannot open /dev/fuse ({error}): `chmod 666 /dev/fuse` as root allows it (a container must be \
             given the device)"
        ));
    }
    let helper = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("fusermount3").exists()));
    if !helper && !rustix::process::geteuid().is_root() {
        return missing(
            "This machine has no fusermount3, which an ordinary user needs to mount: install it with `apt install fuse3`",
        );
    }
    Ok(())
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    check_fuse()?;
    let program = program::own()?;
    let folder =
        tempfile::Builder::new().prefix("bakfs-demo-").tempdir().context(|| "Cannot make a temporary folder".into())?;
    let base = std::fs::canonicalize(folder.path()).context(|| "Cannot use the temporary folder".into())?;
    // From here on the folder is removed by hand: never while something is mounted in it.
    let _ = folder.keep();
    let demo = Demo { base, program };
    let shown = tour(&demo);
    let history = demo.path("history");
    if args.keep && shown.is_ok() {
        let base = demo.base.display();
        say!("\nLeft as it is: the mount {0}. To end it: bakfs umount {0} && rm -r {base}", history.display());
        return Ok(Status::Done);
    }
    if bakfs_mount::find_mount(&history).is_some() {
        let ended = demo.bakfs(&["umount".as_ref(), history.as_ref()]).status();
        if !ended.is_ok_and(|status| status.success()) {
            bakfs_mount::unmount(&history, true).map_err(|error| {
                Error::new(ErrorKind::Io, format!("Cannot end the mount {}", history.display())).because(error)
            })?;
        }
    }
    std::fs::remove_dir_all(&demo.base).context(|| format!("Cannot remove {}", demo.base.display()))?;
    shown?;
    say!("\nAll of it was in {}, which is gone again. Yours begins with: bakfs backup /etc", demo.base.display());
    Ok(Status::Done)
}

fn tour(demo: &Demo) -> Result<(), Error> {
    let server = demo.path("server");
    std::fs::create_dir(&server).context(|| "Cannot make a folder to back up".into())?;
    for name in ["hosts", "passwd", "fstab", "hostname"] {
        let (from, to) = (Path::new("/etc").join(name), server.join(name));
        // A bare machine may not have it.
        if std::fs::copy(&from, &to).is_err() {
            std::fs::write(&to, format!("# {name} of a server\n"))
                .context(|| format!("Cannot make {}", to.display()))?;
        }
    }
    let database = server.join("shop.sqlite");
    let has_database = demo.sql(&database, SHOP);
    say!("Two days of backups of /etc and of {} are made, then read back as files.", server.display());
    demo.show(&mut demo.bakfs(&["init".as_ref()]), &[0])?;
    let backup = |more: &[&OsStr]| {
        let mut command = demo.bakfs(&["backup".as_ref(), "-v".as_ref()]);
        command.args(more).arg("/etc").arg(&server);
        command
    };
    demo.show(&mut backup(&["--time".as_ref(), "1 day ago".as_ref()]), &[0, 3])?;
    say!("\n# Overnight a line is added to hosts, a file vanishes, and the shop sells a lamp.");
    let hosts = server.join("hosts");
    let mut text = std::fs::read_to_string(&hosts).unwrap_or_default();
    text.push_str("192.0.2.7 printer\n");
    std::fs::write(&hosts, text).context(|| format!("Cannot change {}", hosts.display()))?;
    let _ = std::fs::remove_file(server.join("fstab"));
    if has_database {
        demo.sql(&database, MORE_SALES);
    }
    demo.show(&mut backup(&[]), &[0, 3])?;
    let history = demo.path("history");
    std::fs::create_dir(&history).context(|| "Cannot make a mount point".into())?;
    demo.show(&mut demo.bakfs(&["mount".as_ref(), "history".as_ref()]), &[0])?;
    demo.show(Command::new("ls").args(["-l", "history"]), &[0])?;
    let below = |day: &str| Path::new("history").join(day).join(server.strip_prefix("/").unwrap_or(&server));
    demo.show(Command::new("diff").arg("-r").arg(below("yesterday")).arg(below("today")), &[0, 1])?;
    let sales = "SELECT item, count(*) FROM sales GROUP BY item";
    if has_database {
        let uri = |day: &str| format!("file:{}?immutable=1", below(day).join("shop.sqlite").display());
        for day in ["yesterday", "today"] {
            let mut probe = Command::new("sqlite3");
            probe.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if !probe.status().is_ok_and(|status| status.success()) {
                say!("\n# (sqlite3 is not installed: with it, the database of either day could be asked right here)");
                break;
            }
            demo.show(Command::new("sqlite3").arg(uri(day)).arg(sales), &[0])?;
        }
    }
    demo.show(Command::new("cp").arg("-a").arg(below("yesterday").join("fstab")).arg("fstab.restored"), &[0, 1])?;
    demo.show(Command::new("ls").args(["-l", "fstab.restored"]), &[0, 2])
}
