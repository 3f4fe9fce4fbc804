//! OpenStack Swift with TempAuth and its S3 API: one device in a folder, one replica.

use super::super::process::tool;
use super::super::write;
use super::daemon::{Daemon, free_port};
use super::{BUCKET, PASSWORD, Place, USER};
use std::path::Path;

/// Returns the user as Swift's own login takes it: account and user.
pub fn user() -> String {
    format!("test:{USER}")
}

/// Returns the processes of the server: the proxy, what keeps accounts, containers and objects, and memcached,
/// which keeps tokens.
pub fn daemons(dir: &Path, port: u16) -> Vec<Daemon> {
    let at = dir.display();
    std::fs::create_dir_all(dir.join("devices/one")).unwrap();
    write(&dir.join("swift.conf"), "[swift-hash]\nswift_hash_path_suffix = test\nswift_hash_path_prefix = test\n");
    let common = format!(
        "bind_ip = 127.0.0.1\nswift_dir = {at}\ndevices = {at}/devices\nmount_check = false\nuser = root\nworkers = 0\n\
         log_level = WARNING\nlog_udp_host = 127.0.0.1\nlog_udp_port = 9\ndisable_fallocate = true\n"
    );
    let memcached_port = free_port();
    let mut daemons = vec![Daemon::new(
        dir,
        memcached_port,
        ["memcached", "-u", "root", "-l", "127.0.0.1", "-p", &memcached_port.to_string()],
    )];
    for kind in ["account", "container", "object"] {
        let server_port = free_port();
        let conf = format!(
            "[DEFAULT]\nbind_port = {server_port}\n{common}\n[pipeline:main]\npipeline = {kind}-server\n\n\
             [app:{kind}-server]\nuse = egg:swift#{kind}\n"
        );
        let path = dir.join(format!("{kind}.conf"));
        write(&path, conf);
        let ring = format!("{at}/{kind}.builder");
        let device = format!("r1z1-127.0.0.1:{server_port}/one");
        for args in [vec!["create", "4", "1", "1"], vec!["add", &device, "1"], vec!["rebalance"]] {
            tool("swift-ring-builder", [&*ring].into_iter().chain(args)).expect(0);
        }
        daemons.push(Daemon::new(dir, server_port, [format!("swift-{kind}-server"), path.display().to_string()]));
    }
    let proxy = format!(
        "[DEFAULT]\nbind_port = {port}\n{common}\n\
         [pipeline:main]\npipeline = catch_errors cache listing_formats s3api tempauth copy container-quotas \
         account-quotas slo dlo proxy-server\n\n\
         [app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\nallow_account_management = true\n\n\
         [filter:catch_errors]\nuse = egg:swift#catch_errors\n\n\
         [filter:cache]\nuse = egg:swift#memcache\nmemcache_servers = 127.0.0.1:{memcached_port}\n\n\
         [filter:listing_formats]\nuse = egg:swift#listing_formats\n\n\
         [filter:s3api]\nuse = egg:swift#s3api\n\n\
         [filter:tempauth]\nuse = egg:swift#tempauth\nuser_test_{USER} = {PASSWORD} .admin\n\
         user_test_reader = {PASSWORD}\n\n\
         [filter:copy]\nuse = egg:swift#copy\n\n[filter:container-quotas]\nuse = egg:swift#container_quotas\n\n\
         [filter:account-quotas]\nuse = egg:swift#account_quotas\n\n[filter:slo]\nuse = egg:swift#slo\n\n\
         [filter:dlo]\nuse = egg:swift#dlo\n"
    );
    let path = dir.join("proxy.conf");
    write(&path, proxy);
    daemons.push(Daemon::new(dir, port, ["swift-proxy-server".to_owned(), path.display().to_string()]));
    daemons
}

/// Makes a container.
pub fn make_container(port: u16, name: &str) {
    container(port, name, "PUT", "X-Ignored: no");
}

/// Lets a container have at most so many bytes.
pub fn limit_container(port: u16, name: &str, max_bytes: u64) {
    container(port, name, "POST", &format!("X-Container-Meta-Quota-Bytes: {max_bytes}"));
}

fn container(port: u16, name: &str, method: &str, header: &str) {
    let address = format!("http://127.0.0.1:{port}");
    let (user, key) = (format!("X-Auth-User: {}", user()), format!("X-Auth-Key: {PASSWORD}"));
    let entered = tool("curl", ["-sfSi", "-H", &user, "-H", &key, &format!("{address}/auth/v1.0")]).expect(0).text();
    let header_of = |name: &str| {
        let line = entered.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {entered}")).trim().to_owned()
    };
    let token = format!("X-Auth-Token: {}", header_of("X-Auth-Token:"));
    let url = format!("{}/{name}", header_of("X-Storage-Url:"));
    tool("curl", ["-sfS", "-X", method, "-H", &token, "-H", header, "-H", "Content-Length: 0", &url]).expect(0);
}

/// Returns a place in the container.
pub fn place(port: u16) -> Place {
    Place::new(
        format!("swift://{BUCKET}/some/repo"),
        [("ST_AUTH", &*format!("http://127.0.0.1:{port}/auth/v1.0")), ("ST_USER", &user()), ("ST_KEY", PASSWORD)],
    )
}

/// Returns the place of a repository by the S3 API.
pub fn place_of_s3(port: u16) -> Place {
    Place::new(
        format!("s3://{BUCKET}/some/repo"),
        [
            ("AWS_ACCESS_KEY_ID", &*user()),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}")),
        ],
    )
}
