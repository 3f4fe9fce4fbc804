//! Real servers on loopback, one per service: each in a folder of its own, on a free port, ended with its guard.

pub mod azure;
pub mod b2;
pub mod daemon;
pub mod gcs;
pub mod moto;
pub mod rclone;
pub mod sftp;
pub mod swift;
pub mod webdav;

use super::process::{Outcome, run, tool};
use daemon::{Daemon, free_port};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The bucket, container or folder every server has from its start.
pub const BUCKET: &str = "bucket";
/// The name of the user, account or key of every server that takes one.
pub const USER: &str = "tester";
/// The password or key of every server that takes one; some want it encoded.
pub const PASSWORD: &str = "testing-password";

/// The services, with what serves them here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// S3 by `rclone serve s3`.
    RcloneS3,
    /// S3 by OpenStack Swift's own `s3api`.
    SwiftS3,
    /// S3 by moto, an emulator.
    Moto,
    /// Swift by OpenStack Swift with TempAuth.
    Swift,
    /// B2's native API by an imitation of our own.
    B2,
    /// SFTP by OpenSSH.
    Sftp,
    /// WebDAV by Apache's mod_dav.
    WebDav,
    /// WebDAV by Apache's mod_dav, encrypted with a certificate nobody knows.
    WebDavTls,
    /// Google Cloud Storage by an emulator.
    Gcs,
    /// Azure Blob Storage by Microsoft's emulator Azurite.
    Azure,
}

/// A place in a server, as bakfs is told of it.
#[derive(Debug, Clone)]
pub struct Place {
    /// What `--repo` takes.
    pub url: String,
    /// Variables with the server's address and credentials.
    pub environment: Vec<(String, String)>,
}

impl Place {
    fn new<const N: usize>(url: String, environment: [(&str, &str); N]) -> Place {
        Place { url, environment: environment.map(|(name, value)| (name.into(), value.into())).into() }
    }

    /// Returns a place below this one.
    pub fn below(mut self, name: &str) -> Place {
        self.url = format!("{}/{name}", self.url);
        self
    }

    /// Returns the place with a variable changed.
    pub fn with(mut self, name: &str, value: &str) -> Place {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
        self
    }
}

/// A server that runs until this is dropped, or this thread ends.
pub struct Server {
    service: Service,
    port: u16,
    daemons: Vec<Daemon>,
    imitation: Option<b2::Imitation>,
    folder: tempfile::TempDir,
}

impl Service {
    /// Returns whether an imitation for tests of programs serves it.
    pub fn is_emulator(self) -> bool {
        matches!(self, Service::Azure | Service::Gcs | Service::Moto)
    }

    /// Returns whether what is stored survives that the server is killed: emulators keep some of it in memory.
    pub fn is_durable(self) -> bool {
        !self.is_emulator()
    }
}

impl Server {
    /// Starts a server with an empty bucket and waits until it answers.
    pub fn start(service: Service) -> Server {
        let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        Server::start_in(service, &base)
    }

    /// Starts a server whose objects are kept below `base`.
    pub fn start_in(service: Service, base: &Path) -> Server {
        let folder = tempfile::Builder::new().prefix("bakfs-server-").tempdir_in(base).unwrap();
        daemon::let_others_enter(folder.path());
        let port = free_port();
        let dir = folder.path();
        let mut server =
            Server { service, port, daemons: Vec::new(), imitation: None, folder: tempfile::tempdir().unwrap() };
        server.daemons = match service {
            Service::RcloneS3 => rclone::daemons(dir, port),
            Service::Moto => moto::daemons(dir, port),
            Service::SwiftS3 | Service::Swift => swift::daemons(dir, port),
            Service::Sftp => sftp::daemons(dir, port),
            Service::WebDav => webdav::daemons(dir, port, false),
            Service::WebDavTls => webdav::daemons(dir, port, true),
            Service::Gcs => gcs::daemons(dir, port),
            Service::Azure => azure::daemons(dir, port),
            Service::B2 => Vec::new(),
        };
        server.folder = folder;
        server.resume();
        server.make_bucket(BUCKET);
        server
    }

    /// Returns the port of 127.0.0.1 it serves.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the folder of the server's files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns what `--repo` takes for a repository in the bucket.
    pub fn url(&self) -> String {
        self.place().url
    }

    /// Returns the variables bakfs needs to enter.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.place().environment
    }

    /// Returns the place of a repository in the bucket.
    pub fn place(&self) -> Place {
        self.place_at(self.port)
    }

    /// Returns the same place as seen through another port, that of a proxy.
    pub fn place_at(&self, port: u16) -> Place {
        match self.service {
            Service::RcloneS3 | Service::Moto => rclone::place(port),
            Service::SwiftS3 => swift::place_of_s3(port),
            Service::Swift => swift::place(port),
            Service::B2 => b2::place(port),
            Service::Sftp => sftp::place(self.folder(), port),
            Service::WebDav => webdav::place(port, false),
            Service::WebDavTls => webdav::place(port, true),
            Service::Gcs => gcs::place(port),
            Service::Azure => azure::place(port),
        }
    }

    /// Makes a bucket, container or folder beside the one that is there.
    pub fn make_bucket(&self, name: &str) {
        match self.service {
            Service::RcloneS3 => std::fs::create_dir_all(self.folder().join("files").join(name)).unwrap(),
            Service::Sftp => std::fs::create_dir_all(self.folder().join("files").join(name)).unwrap(),
            Service::WebDav | Service::WebDavTls => webdav::make_folder(self.folder(), name),
            Service::Gcs => gcs::make_bucket(self.port, name),
            Service::SwiftS3 | Service::Swift => swift::make_container(self.port, name),
            Service::Azure | Service::B2 | Service::Moto => {
                self.rclone(&["mkdir", &format!("there:{name}")]).expect(0);
            }
        }
    }

    /// Runs rclone, another client, with this server as the remote `there:`.
    pub fn rclone(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new(daemon::program("python/bin/rclone"));
        command.args(args).env("RCLONE_CONFIG", "").env("RCLONE_RETRIES", "1");
        let port = self.port;
        let address = format!("http://127.0.0.1:{port}");
        let pairs: Vec<(&str, String)> = match self.service {
            Service::RcloneS3 | Service::SwiftS3 | Service::Moto => {
                vec![("TYPE", "s3".into()), ("PROVIDER", "Other".into()), ("ENDPOINT", address)]
            }
            Service::Swift => vec![("TYPE", "swift".into()), ("AUTH", format!("{address}/auth/v1.0"))],
            Service::B2 => vec![("TYPE", "b2".into()), ("ENDPOINT", address)],
            Service::Azure => vec![("TYPE", "azureblob".into()), ("ENDPOINT", format!("{address}/{USER}"))],
            Service::Sftp => vec![("TYPE", "sftp".into()), ("HOST", "127.0.0.1".into()), ("PORT", port.to_string())],
            Service::WebDav => vec![("TYPE", "webdav".into()), ("URL", address)],
            Service::WebDavTls => vec![("TYPE", "webdav".into()), ("URL", format!("https://127.0.0.1:{port}"))],
            Service::Gcs => vec![("TYPE", "gcs".into()), ("ENDPOINT", format!("{address}/storage/v1/"))],
        };
        let secrets: Vec<(&str, String)> = match self.service {
            Service::RcloneS3 | Service::Moto => {
                vec![("ACCESS_KEY_ID", USER.into()), ("SECRET_ACCESS_KEY", PASSWORD.into())]
            }
            Service::SwiftS3 => {
                vec![("ACCESS_KEY_ID", swift::user()), ("SECRET_ACCESS_KEY", PASSWORD.into())]
            }
            Service::Swift => vec![("USER", swift::user()), ("KEY", PASSWORD.into())],
            Service::B2 => vec![("ACCOUNT", USER.into()), ("KEY", PASSWORD.into())],
            Service::Azure => vec![("ACCOUNT", USER.into()), ("KEY", azure::key())],
            Service::Sftp => {
                vec![("USER", "root".into()), ("KEY_FILE", self.folder().join("id").display().to_string())]
            }
            Service::WebDav | Service::WebDavTls => {
                let obscured = tool(daemon::program("python/bin/rclone").to_str().unwrap(), ["obscure", PASSWORD]);
                vec![("USER", USER.into()), ("PASS", obscured.expect(0).text().trim().into())]
            }
            Service::Gcs => vec![("ANONYMOUS", "true".into())],
        };
        for (name, value) in pairs.into_iter().chain(secrets) {
            command.env(format!("RCLONE_CONFIG_THERE_{name}"), value);
        }
        run(command)
    }

    /// Kills the server with all its processes; what it has stored stays.
    pub fn kill(&mut self) {
        self.daemons.iter_mut().for_each(Daemon::kill);
        if let Some(imitation) = &mut self.imitation {
            imitation.stop();
        }
    }

    /// Starts a killed server again at the same port and waits until it answers.
    pub fn resume(&mut self) {
        if self.service == Service::B2 {
            match &mut self.imitation {
                Some(imitation) => imitation.resume(),
                None => self.imitation = Some(b2::Imitation::start(self.port)),
            }
        }
        self.daemons.iter_mut().for_each(Daemon::start);
        self.daemons.iter_mut().for_each(Daemon::wait);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
