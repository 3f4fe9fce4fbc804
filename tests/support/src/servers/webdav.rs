//! WebDAV by Apache's mod_dav, with a password; encrypted with a certificate of its own where that is asked for.

use super::super::process::tool;
use super::super::write;
use super::daemon::Daemon;
use super::{BUCKET, PASSWORD, Place, USER};
use std::path::Path;

const MODULES: &str = "/usr/lib/apache2/modules";

/// Returns the processes of the server.
pub fn daemons(dir: &Path, port: u16, has_tls: bool) -> Vec<Daemon> {
    let at = dir.display();
    make_folder(dir, "");
    tool("chown", ["www-data", &format!("{at}")]).expect(0);
    tool("htpasswd", ["-bcs", &format!("{at}/users"), USER, PASSWORD]).expect(0);
    let mut modules =
        "mpm_event authn_core authn_file authz_core authz_user auth_basic dav dav_fs".split(' ').collect::<Vec<_>>();
    let mut tls = String::new();
    if has_tls {
        modules.push("ssl");
        let (key, certificate) = (format!("{at}/key.pem"), format!("{at}/cert.pem"));
        let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
        // One of an authority is taken for no server (RFC 5280, 4.2.1.9).
        let is_no_authority = ["-addext", "basicConstraints=critical,CA:FALSE"];
        let args =
            ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", &key, "-out", &certificate];
        tool("openssl", args.into_iter().chain(subject).chain(is_no_authority)).expect(0);
        tls = format!("SSLEngine on\nSSLCertificateFile {certificate}\nSSLCertificateKeyFile {key}\n");
    }
    let modules: String =
        modules.iter().map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n")).collect();
    let text = format!(
        "ServerRoot {at}\nServerName 127.0.0.1\nListen 127.0.0.1:{port}\nPidFile {at}/pid\nErrorLog {at}/log\n\
         User www-data\nGroup www-data\n{modules}{tls}DavLockDB {at}/locks\nDocumentRoot {at}/files\n\
         <Directory {at}/files>\nDav On\nAuthType Basic\nAuthName test\nAuthUserFile {at}/users\n\
         Require valid-user\n</Directory>\n"
    );
    let conf = dir.join("apache.conf");
    write(&conf, text);
    let line = ["/usr/sbin/apache2".to_owned(), "-X".into(), "-f".into(), conf.display().to_string()];
    vec![Daemon::new(dir, port, line)]
}

/// Makes a folder the server may write to.
pub fn make_folder(dir: &Path, name: &str) {
    let path = dir.join("files").join(name);
    std::fs::create_dir_all(&path).unwrap();
    tool("chown", ["www-data:www-data".to_owned(), path.display().to_string()]).expect(0);
}

/// Returns a folder of the server.
pub fn place(port: u16, has_tls: bool) -> Place {
    let scheme = if has_tls { "webdavs" } else { "webdav" };
    Place::new(
        format!("{scheme}://127.0.0.1:{port}/{BUCKET}/some/repo"),
        [("WEBDAV_USER", USER), ("WEBDAV_PASSWORD", PASSWORD)],
    )
}
