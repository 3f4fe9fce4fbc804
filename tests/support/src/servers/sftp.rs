//! SFTP by OpenSSH's server, entered with a key as the user who runs the tests.

use super::super::process::tool;
use super::super::write;
use super::daemon::Daemon;
use super::{BUCKET, Place};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Returns the processes of the server.
pub fn daemons(dir: &Path, port: u16) -> Vec<Daemon> {
    for name in ["host_key", "id"] {
        let path = dir.join(name).display().to_string();
        tool("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", &path]).expect(0);
    }
    std::fs::copy(dir.join("id.pub"), dir.join("authorized_keys")).unwrap();
    let public = std::fs::read_to_string(dir.join("host_key.pub")).unwrap();
    write(&dir.join("known_hosts"), format!("the-server {public}"));
    let at = dir.display();
    // The name makes the key known at any port: that of a proxy, too.
    let client = format!(
        "Host *\nHostKeyAlias the-server\nUserKnownHostsFile {at}/known_hosts\nIdentityFile {at}/id\nIdentitiesOnly yes\n"
    );
    write(&dir.join("ssh_config"), client);
    let wrapper = dir.join("bin/ssh");
    write(&wrapper, format!("#!/bin/sh\nexec /usr/bin/ssh -F {at}/ssh_config \"$@\"\n"));
    std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    let server = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host_key\nAuthorizedKeysFile {at}/authorized_keys\n\
         PidFile none\nStrictModes no\nPermitRootLogin yes\nUsePAM no\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
    );
    write(&dir.join("sshd_config"), server);
    // Where sshd confines its unprivileged part; systemd makes it elsewhere.
    std::fs::create_dir_all("/run/sshd").unwrap();
    vec![Daemon::new(dir, port, ["/usr/sbin/sshd", "-D", "-e", "-f", &format!("{at}/sshd_config")])]
}

/// Returns a folder below the server's; a program `ssh` that knows the keys comes first in PATH.
pub fn place(dir: &Path, port: u16) -> Place {
    let path = std::env::var("PATH").unwrap();
    Place::new(
        format!("sftp://root@127.0.0.1:{port}{}/files/{BUCKET}/repo", dir.display()),
        [("PATH", &*format!("{}/bin:{path}", dir.display()))],
    )
}
