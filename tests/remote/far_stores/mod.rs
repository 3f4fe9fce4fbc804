//! Promise: a far store is taken as it is: checksums that are none of the bytes, keys that are renewed while a command
//! runs or a mount stands, addresses of every form, folders no socket fits into. What cannot work says why at once, with
//! the next step, and repeats no secret.

use bakfs_testing::bent::Server;
use bakfs_testing::cli::Bakfs;
use bakfs_testing::process::{Outcome, start};
use bakfs_testing::servers::{self, Place, Service};
use bakfs_testing::{SOON, noise, until, write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "tester"), ("AWS_SECRET_ACCESS_KEY", "S3CRET")];

fn place(variables: &[(&str, &str)]) -> Place {
    let environment = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Place { url: "s3://bucket/r".into(), environment }
}

fn at(server: &Server) -> Bakfs {
    Bakfs::at(&place(&[KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", &server.url)]))
}

/// No line is of a library, and no secret is in any.
#[track_caller]
fn is_clean(outcome: &Outcome) {
    let said = format!("{}{}", outcome.text(), outcome.stderr);
    for wrong in ["ERROR", "opendal", "reqwest", "S3CRET", "panicked"] {
        assert!(!said.contains(wrong), "{wrong}: {outcome}");
    }
}

/// Fails in a moment, for a reason that is named.
#[track_caller]
fn fails_at_once(outcome: Outcome, begun: Instant, words: &[&str]) {
    assert!(matches!(outcome.code, 1 | 2), "{outcome}");
    is_clean(&outcome);
    for word in words {
        assert!(outcome.stderr.contains(word), "{word}: {outcome}");
    }
    assert_eq!(outcome.stderr.lines().filter(|line| line.starts_with("bakfs: ")).count(), 1, "{outcome}");
    // The tries of a place that does not answer take 30 s and more.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}: {outcome}", begun.elapsed());
}

#[test]
fn etags_that_are_no_md5_are_looked_behind_and_told_to_nobody() {
    let server = Server::start(1000);
    server.tell_opaque_etags();
    let bakfs = at(&server);
    bakfs.ok(["init"]);
    let source = bakfs.make_dir("source");
    for number in 0..3 {
        write(&source.join(number.to_string()), noise(number, 9_000_000));
    }
    let outcome = bakfs.ok(["backup", source.to_str().unwrap()]);
    assert_eq!(outcome.stderr, "", "{outcome}");
    let restored = bakfs.path("restored");
    bakfs.ok(["restore", "latest", restored.to_str().unwrap()]);
    for number in 0..3 {
        let path = restored.join(source.strip_prefix("/").unwrap()).join(number.to_string());
        assert!(std::fs::read(path).unwrap() == noise(number, 9_000_000));
    }
    bakfs.ok(["check", "--read-data"]);
}

fn renew(bakfs: &Bakfs, token: &str) {
    let text =
        format!("[default]\naws_access_key_id = tester\naws_secret_access_key = S3CRET\naws_session_token = {token}\n");
    let folder = bakfs.make_dir("home/.aws");
    // As tools that renew it do: in one step.
    write(&folder.join("new"), text);
    std::fs::rename(folder.join("new"), folder.join("credentials")).unwrap();
}

#[test]
fn a_token_that_is_renewed_in_its_file_is_taken_up_by_a_backup_and_a_mount() {
    bakfs_testing::need_root();
    let server = Server::start(1000);
    server.take_token("FIRST");
    let bakfs = Bakfs::at(&place(&[("AWS_ENDPOINT_URL", &server.url)]));
    renew(&bakfs, "FIRST");
    bakfs.ok(["init"]);
    let source = bakfs.make_dir("source");
    write(&source.join("file"), noise(1, 300_000));
    bakfs.backup([&source]);
    // One backup whose input waits while the token goes and another one comes.
    let mut backup = bakfs.command(["backup", "--stdin", "/stream"]);
    let mut backup = backup.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let marks = || server.objects().keys().filter(|path| path.contains("/marks/")).count();
    until("the backup has begun", SOON, || marks() > 0);
    renew(&bakfs, "SECOND");
    server.take_token("SECOND");
    std::io::Write::write_all(&mut backup.stdin.take().unwrap(), &noise(2, 300_000)).unwrap();
    let outcome = backup.wait_with_output().unwrap();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    // A mount whose token is gone, and comes later than the first question.
    let mount = bakfs.mount();
    server.take_token("THIRD");
    let file = mount.path().join("latest/stream");
    assert!(std::fs::read(&file).is_err(), "nothing of it was read before");
    renew(&bakfs, "THIRD");
    until("the mount has the new token", SOON, || std::fs::read(&file).is_ok_and(|bytes| bytes == noise(2, 300_000)));
    mount.unmount();
    // Without a new one the cause is named, and not tried again.
    server.take_token("FOURTH");
    server.asked("HEAD");
    let outcome = bakfs.run(["snapshots"]).refused().says("session token");
    is_clean(&outcome);
}

#[test]
fn addresses_that_cannot_be_used_are_named_without_their_secrets() {
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        let begun = Instant::now();
        let bakfs = Bakfs::at(&place(&[&KEYS[..], variables].concat()));
        (bakfs.run(args), begun)
    };
    for (endpoint, words) in [
        ("127.0.0.1:9000", &["AWS_ENDPOINT_URL", "127.0.0.1:9000", "http://"][..]),
        ("minio.example", &["AWS_ENDPOINT_URL", "minio.example", "http://"]),
        ("ftp://minio.example", &["AWS_ENDPOINT_URL", "http://"]),
        ("http://me:S3CRET@minio.example", &["AWS_ENDPOINT_URL", "variables of their own"]),
        ("https://minio.example/?key=S3CRET", &["AWS_ENDPOINT_URL", "variables of their own"]),
        ("me:S3CRET@minio.example", &["AWS_ENDPOINT_URL", "http://"]),
        ("http://127.0.0.1:1", &["check the host", "onnection refused"]),
        ("http://no-such-host.invalid", &["check the host"]),
    ] {
        let (outcome, begun) = run(&[("AWS_ENDPOINT_URL", endpoint)], &["snapshots"]);
        fails_at_once(outcome, begun, words);
    }
    for (name, value, words) in [
        ("http_proxy", "http://me:S3CRET@127.0.0.1:1", &["the proxy of http_proxy", "onnection refused"][..]),
        ("ALL_PROXY", "http://me:S3CRET@127.0.0.1:1", &["the proxy of ALL_PROXY"]),
        ("http_proxy", "http://me:S3CRET@", &["http_proxy names no proxy"]),
        ("http_proxy", "socks5://me:S3CRET@127.0.0.1:1", &["http_proxy names no proxy"]),
    ] {
        let variables = [("AWS_ENDPOINT_URL", "http://192.0.2.1:9000"), (name, value)];
        let (outcome, begun) = run(&variables, &["snapshots"]);
        fails_at_once(outcome, begun, words);
        let (outcome, begun) = run(&variables, &["-vvv", "init"]);
        is_clean(&outcome);
        assert!(outcome.code != 0 && begun.elapsed() < Duration::from_secs(20), "{outcome}");
    }
    for repo in [
        "me:S3CRET@host:/srv/backup",
        "me:S3C/RET@host:/srv/S3CRET",
        "sftp://me:S3CRET@host/srv",
        "s3://bucket/p?access_key_id=a&secret_access_key=S3CRET",
        "s3://key:S3CRET@bucket/p",
        "https://me:S3CRET@host/dav",
    ] {
        let bakfs = Bakfs::empty();
        for args in [
            &["--repo", repo, "init"][..],
            &["--repo", repo, "snapshots"],
            &["--json", "--repo", repo, "backup", "/etc/hostname"],
        ] {
            let outcome = bakfs.run(args).expect(2);
            let said = format!("{}{}", outcome.text(), outcome.stderr);
            // What follows the host of the second one is no secret, but its path.
            assert!(!said.replace("/srv/S3CRET", "").contains("S3CRET") && !said.contains("RET@"), "{outcome}");
        }
        let mut help = bakfs.command(["backup", "--help"]);
        help.env("BAKFS_REPO", repo);
        let outcome = start(help, false).finish().expect(0);
        assert!(!outcome.text().contains("S3C"), "{outcome}");
        let strays = std::fs::read_dir(bakfs.path(""))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("host"));
        assert_eq!(strays.count(), 0, "no folder was made for {repo}");
    }
}

#[test]
fn an_address_with_a_blank_or_a_line_break_is_named_at_once() {
    let repo = |text: &str| ("BAKFS_REPO".to_owned(), text.to_owned());
    let wrong = [
        " http://127.0.0.1:1",
        "http://127.0.0.1:1 ",
        "http://127.0.0.1\n:1",
        "http://127.0.0.1:1/a\tb",
        "http://a b",
        "http://127.0.0.1:1\n",
    ];
    let mut values = wrong.iter().cycle();
    for (url, names) in [
        ("s3://bucket/r", &["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"][..]),
        ("b2://bucket/r", &["B2_ENVIRONMENT"]),
        ("swift://bucket/r", &["OS_AUTH_URL", "OS_STORAGE_URL", "ST_AUTH"]),
        ("gs://bucket/r", &["STORAGE_EMULATOR_HOST"]),
        (
            "azblob://bucket/r",
            &["AZURE_STORAGE_BLOB_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_STORAGE_SERVICE_ENDPOINT"],
        ),
    ] {
        for name in names {
            for value in values.by_ref().take(2) {
                let variables = [("AWS_ACCESS_KEY_ID", "tester"), ("AWS_SECRET_ACCESS_KEY", "S3CRET"), (*name, *value)];
                let bakfs = Bakfs::at(&Place { url: url.into(), ..place(&variables) });
                fails_at_once(bakfs.run(["snapshots"]).expect(2), Instant::now(), &[name, "a blank, a line break"]);
            }
        }
    }
    // In the file of secrets, the configuration and the URL itself.
    let bakfs = Bakfs::at(&place(&KEYS));
    let secrets = bakfs.path("config/credentials.toml");
    write(&secrets, "[\"s3://bucket\"]\naws_endpoint_url = \"http://127.0.0.1:1 \"\n");
    std::fs::set_permissions(&secrets, PermissionsExt::from_mode(0o600)).unwrap();
    fails_at_once(bakfs.run(["snapshots"]).expect(2), Instant::now(), &["AWS_ENDPOINT_URL", "credentials.toml"]);
    for url in ["s3://bucket/r ", " s3://bucket/r", "sftp://host/a\nb"] {
        let bakfs = Bakfs::at(&Place { url: url.into(), environment: vec![repo(url)] });
        fails_at_once(bakfs.run(["snapshots"]).expect(2), Instant::now(), &["BAKFS_REPO"]);
        let without = |args: &[&str]| {
            let mut command = bakfs.command(args);
            command.env_remove("BAKFS_REPO");
            start(command, false).finish().expect(2)
        };
        fails_at_once(without(&["--repo", url, "snapshots"]), Instant::now(), &["--repo"]);
        let config = bakfs.path("config/bakfs.toml");
        write(&config, format!("repo = {url:?}\n"));
        std::fs::set_permissions(&config, PermissionsExt::from_mode(0o600)).unwrap();
        fails_at_once(without(&["snapshots"]), Instant::now(), &["bakfs.toml", "repo: "]);
    }
}

#[test]
fn a_place_has_an_address_of_ipv6() {
    let server = Server::start_at("[::1]:0", 1000);
    assert!(server.url.contains("[::1]"), "{}", server.url);
    let bakfs = at(&server);
    bakfs.ok(["init"]);
    let source = bakfs.make_dir("source");
    write(&source.join("file"), "content");
    bakfs.backup([&source]);
    assert_eq!(bakfs.json(["snapshots"]).as_array().unwrap().len(), 1);
}

/// Has an SFTP server take further words of its configuration.
fn reconfigure(server: &mut servers::Server, change: impl Fn(String) -> String) {
    let path = server.folder().join("sshd_config");
    server.kill();
    write(&path, change(std::fs::read_to_string(&path).unwrap()));
    server.resume();
}

#[test]
fn sftp_is_reached_by_ipv6_and_with_folders_no_socket_fits_into() {
    let mut server = servers::Server::start(Service::Sftp);
    reconfigure(&mut server, |text| {
        text.replace("ListenAddress 127.0.0.1", "ListenAddress 127.0.0.1\nListenAddress ::1")
    });
    let mut place = server.place();
    place.url = place.url.replace("127.0.0.1", "[::1]");
    let bakfs = Bakfs::at(&place);
    bakfs.ok(["init"]);
    assert_eq!(bakfs.json(["snapshots"]).as_array().unwrap().len(), 0);
    // Without a port: ssh's configuration has it.
    let config = server.folder().join("ssh_config");
    let text = std::fs::read_to_string(&config).unwrap();
    write(&config, format!("{text}Port {}\n", server.port()));
    let without = place.url.replace(&format!(":{}", server.port()), "");
    bakfs.ok(["--repo", &without, "snapshots"]);
    // State folders whose path is too long, or that cannot be made.
    let reached = |variables: &[(&str, &Path)]| {
        let mut command = bakfs.command(["snapshots"]);
        for name in ["XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR"] {
            command.env_remove(name);
        }
        let outcome = start(command_with(command, variables), false).finish().expect(0);
        is_clean(&outcome);
    };
    let long = bakfs.path(&"long".repeat(30));
    let file = bakfs.path("file");
    write(&file, "");
    let short = tempfile::Builder::new().prefix("b").tempdir_in("/tmp").unwrap();
    let runtime = short.path().join("run");
    std::fs::create_dir(&runtime).unwrap();
    std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o700)).unwrap();
    reached(&[("XDG_STATE_HOME", &long), ("XDG_RUNTIME_DIR", &runtime)]);
    reached(&[("XDG_STATE_HOME", &long)]);
    reached(&[("XDG_STATE_HOME", &file.join("state"))]);
    reached(&[("HOME", &long)]);
    // Nobody else's folder is taken for ours.
    let taken = short.path().join("bakfs-ssh-0");
    std::fs::create_dir(&taken).unwrap();
    std::fs::set_permissions(&taken, PermissionsExt::from_mode(0o777)).unwrap();
    reached(&[("XDG_STATE_HOME", &long), ("TMPDIR", short.path())]);
    assert_eq!(std::fs::read_dir(&taken).unwrap().count(), 0);
}

fn command_with(mut command: Command, variables: &[(&str, &Path)]) -> Command {
    command.envs(variables.iter().copied());
    command
}

#[test]
fn a_server_that_may_only_be_read_says_so() {
    let mut server = servers::Server::start(Service::Sftp);
    let bakfs = Bakfs::at(&server.place());
    bakfs.ok(["init"]);
    let source = bakfs.make_dir("source");
    write(&source.join("file"), noise(1, 300_000));
    bakfs.backup([&source]);
    reconfigure(&mut server, |text| text.replace("internal-sftp", "internal-sftp -R"));
    let denied = |place: &Place, args: &[&str]| {
        let begun = Instant::now();
        fails_at_once(Bakfs::at(place).run(args), begun, &["permission denied"]);
    };
    denied(&server.place().below("new/deeper"), &["init"]);
    let parts: &Path = &server.folder().join("files/bucket/empty");
    std::fs::create_dir(parts).unwrap();
    let empty = Place { url: server.url().replace("/bucket/repo", "/bucket/empty"), ..server.place() };
    denied(&empty, &["init"]);
    // What is there can be read.
    assert_eq!(bakfs.json(["snapshots"]).as_array().unwrap().len(), 1);
    let begun = Instant::now();
    let refused = bakfs.run(["backup", source.to_str().unwrap()]);
    fails_at_once(refused, begun, &["permission denied"]);
}

#[test]
fn what_a_run_has_found_is_told_of_a_place_whose_server_is_set_elsewhere() {
    let server = servers::Server::start(Service::RcloneS3);
    let place = server.place().below("told");
    let bakfs = Bakfs::at(&place);
    let source = bakfs.make_dir("source");
    write(&source.join("file"), "content");
    let config = bakfs.path("config/bakfs.toml");
    let text = format!(
        "repo = '{}'\n[profile.web]\nsources = ['{}']\ncheck = {{ every = '1h', share = '100%' }}\n",
        place.url,
        source.display()
    );
    write(&config, text);
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
    bakfs.ok(["init"]);
    let run = bakfs.json(["run", "web"]);
    assert_eq!(run[0]["checked"], true, "{run}");
    let status = bakfs.json(["status"]);
    let repository = &status["repositories"][0];
    assert!(repository["last_check"].is_string() && repository["verified_bytes"].as_u64().unwrap() > 0, "{status}");
    // And this machine forgets the place by the name that it has there.
    let forgotten = bakfs.json(["forget-place"]);
    assert!(forgotten.to_string().contains(&place.url), "{forgotten}");
}
