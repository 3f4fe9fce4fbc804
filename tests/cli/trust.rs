//! Promise: what this machine's other users could change is not trusted, what is secret is told to nobody, and what this
//! program makes for itself is its owner's alone.

use bakfs_testing::cli::{Bakfs, NOBODY, is_mounted};
use bakfs_testing::machine::Machine;
use bakfs_testing::process::{Outcome, run};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}")).mode() & 0o7777
}

/// A machine that has backed something up, with an encrypted repository and its key file.
fn machine(text: &str) -> Machine {
    bakfs_testing::need_root();
    let machine = Machine::new(text);
    set_mode(&machine.path(""), 0o755);
    machine.write("source/page", "hello\n");
    machine
}

const PROFILE: &str = "[profile.web]\nsources = ['@/source']\n";

/// Secrets that the environment may hold, and what a program needs of it.
const SECRETS: [&str; 15] = [
    "BAKFS_PASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "B2_APPLICATION_KEY",
    "OS_PASSWORD",
    "OS_AUTH_TOKEN",
    "OS_APPLICATION_CREDENTIAL_SECRET",
    "ST_KEY",
    "WEBDAV_PASSWORD",
    "VAULT_TOKEN",
];
const NEEDED: [&str; 3] = ["SSH_AUTH_SOCK", "PGPASSWORD", "LC_TIME"];

/// Tells where a program finds itself: its number, session and terminal, its descriptors and its environment.
const WHERE: &str = "echo $$ $(cut -d' ' -f6,7 /proc/$$/stat); (: < /dev/tty) 2>/dev/null && echo terminal; \
                     ls /proc/$$/fd | tr '\\n' ' '; echo; env";

#[test]
fn programs_have_a_session_of_their_own_no_descriptors_and_no_secrets() {
    let machine = machine(&format!(
        "{PROFILE}notify = {{ mail = 'root', on-success = true, sendmail = '@/sendmail' }}\n\
         [profile.web.hooks]\nbefore = '/bin/sh @/where > @/before'\nfinally = ['@/where', '']\n\
         [[profile.web.command]]\nname = 'theirs'\nrun = ['/bin/sh', '@/where']\nuser = 'nobody'\n\
         [[profile.web.command]]\nname = 'ours'\nrun = ['/bin/sh', '@/where']\n"
    ));
    machine
        .write("where", &format!("#!/bin/sh\n[ $# = 0 ] || exec > {}\n{WHERE}\n", machine.path("finally").display()));
    machine.write(
        "sendmail",
        &format!("#!/bin/sh\ncat > /dev/null\nexec > {}\n{WHERE}\n", machine.path("mail").display()),
    );
    ["where", "sendmail"].iter().for_each(|name| set_mode(&machine.path(name), 0o755));
    // From a terminal, with descriptors open that are not ours.
    let program = bakfs_testing::cli::program();
    let line = format!("exec 9</etc/passwd 7>&1; exec {} run web", program.display());
    let mut command = machine.bakfs.wrap("script");
    command.args(["-qec", &line, "/dev/null"]).env_remove("BAKFS_REPO");
    command.envs(SECRETS.iter().map(|name| (name, format!("needle-{name}"))));
    command.envs(NEEDED.iter().map(|name| (name, "needed")));
    // This repository has a key file, which is what unlocks it.
    command.env_remove("BAKFS_PASSWORD").env("SHELL", "/bin/sh");
    let outcome = run(command);
    assert_eq!(outcome.code, 0, "{outcome}");
    let [theirs, ours] =
        ["theirs", "ours"].map(|name| machine.ok(["dump", &format!("latest:/databases/command/{name}")]).text());
    let heard = [machine.text("before"), machine.text("finally"), machine.text("mail"), theirs, ours];
    for (at, said) in heard.iter().enumerate() {
        let mut lines = said.lines();
        let first: Vec<&str> =
            lines.next().unwrap_or_else(|| panic!("{at} was not run: {outcome}")).split(' ').collect();
        assert_ne!(first[1], "", "{said}");
        // The shell that reads the hook's line leads the session of the one that it starts.
        assert!(first[0] == first[1] || at == 0, "{at} leads no session: {said}");
        assert_eq!(first[2], "0", "{at} has a terminal: {said}");
        assert!(!said.contains("terminal\n"), "{at} can open the terminal: {said}");
        let descriptors: BTreeSet<u32> =
            lines.next().unwrap().split_whitespace().map(|fd| fd.parse().unwrap()).collect();
        assert!(!descriptors.contains(&9) && !descriptors.contains(&7), "{at} inherits: {said}");
        assert!(!said.contains("needle-"), "{at} is told: {said}");
        let is_other = at == 3;
        for name in NEEDED {
            assert_eq!(said.contains(&format!("{name}=needed")), !is_other, "{at} {name}: {said}");
        }
    }
}

#[test]
fn every_secret_of_a_service_is_known_as_one() {
    let sources = ["aws", "environment", "login", "netrc", "openstack", "service", "settings", "mod"];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/remote");
    let mut names = BTreeSet::new();
    for source in sources {
        let text = std::fs::read_to_string(folder.join(format!("{source}.rs"))).unwrap();
        let words = text.split('"').filter(|word| {
            word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        });
        names.extend(words.map(str::to_owned));
    }
    let is_secret = |name: &&String| {
        ["PASSWORD", "SECRET", "TOKEN", "_KEY", "CONNECTION_STRING"].iter().any(|part| name.contains(part))
            && !name.ends_with("_FILE")
    };
    let secrets: Vec<_> = names.iter().filter(is_secret).collect();
    assert!(secrets.len() >= 10, "{names:?}");
    for name in secrets {
        assert!(bakfs::trust::environment::is_secret(name), "{name}: no other program may be told of it");
        assert!(bakfs::trust::environment::is_withheld(OsStr::new(name)), "{name}");
    }
}

/// Returns all of a process's memory that a core would have.
fn core_of(pid: u32) -> Vec<u8> {
    use std::io::{Read, Seek, SeekFrom};
    let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let (mut core, mut range) = (Vec::new(), None);
    for line in maps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let Some((from, to)) = range.take() else { continue };
            let flags: Vec<&str> = flags.split_whitespace().collect();
            if !flags.contains(&"rd") || !flags.contains(&"wr") || flags.contains(&"dd") || flags.contains(&"io") {
                continue;
            }
            let mut part = vec![0; usize::try_from(to - from).unwrap()];
            memory.seek(SeekFrom::Start(from)).unwrap();
            if memory.read_exact(&mut part).is_ok() {
                core.append(&mut part);
            }
        } else if let Some((from, to)) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')) {
            range = u64::from_str_radix(from, 16).ok().zip(u64::from_str_radix(to, 16).ok());
        }
    }
    core
}

/// Returns which needles a core holds. One pass: it has many megabytes.
fn found(core: &[u8], needles: &[(String, Vec<u8>)]) -> Vec<String> {
    let mut firsts = [false; 256];
    needles.iter().for_each(|(_, needle)| firsts[usize::from(needle[0])] = true);
    let mut found = Vec::new();
    for (at, byte) in core.iter().enumerate() {
        if firsts[usize::from(*byte)] {
            let here = needles.iter().filter(|(_, needle)| core[at..].starts_with(needle));
            found.extend(here.map(|(name, _)| name.clone()));
        }
    }
    found
}

fn server_of(mountpoint: &Path) -> u32 {
    let wanted = mountpoint.as_os_str().as_encoded_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut found = processes.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        (words.contains(&wanted) && words.contains(&&b"--foreground"[..])).then_some(pid)
    });
    found.next().unwrap()
}

#[test]
fn keys_and_passphrases_are_in_no_core_of_a_mount() {
    bakfs_testing::need_root();
    const PASSPHRASE: &str = "needle-in-the-core-4711";
    for encryption in ["aes256", "none"] {
        let bakfs = Bakfs::empty();
        let source = bakfs.make_dir("source");
        bakfs_testing::write(&source.join("page"), "hello\n");
        let (name, passphrase) = ("BAKFS_PASSWORD", if encryption == "none" { None } else { Some(PASSPHRASE) });
        let ok = |args: &[&OsStr]| -> Outcome {
            let mut command = bakfs.command(args);
            passphrase.map(|passphrase| command.env(name, passphrase));
            run(command).expect(0)
        };
        ok(&["init".as_ref(), "--encryption".as_ref(), encryption.as_ref()]);
        ok(&["backup".as_ref(), source.as_os_str()]);
        let mnt = bakfs.path("mnt");
        ok(&["mount".as_ref(), mnt.as_os_str()]);
        let mounted = bakfs.adopt(mnt.clone());
        assert_eq!(std::fs::read(mounted.at("latest", &source).join("page")).unwrap(), b"hello\n");
        let pid = server_of(&mnt);
        let core = core_of(pid);
        assert!(core.len() > 1 << 20, "the core was read");
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        let master = master_of(&bakfs, passphrase);
        let mut needles =
            vec![("the passphrase".to_owned(), PASSPHRASE.into()), ("the master key".into(), master.to_vec())];
        for kind in ["packs", "index segments", "snapshots", "marks"] {
            let key = blake3::derive_key(&format!("bakfs 2026-11-20 key wrapping of {kind}"), &master);
            needles.push((format!("the wrapping key of {kind}"), key.to_vec()));
        }
        assert_eq!(found(&[core, environment].concat(), &needles), Vec::<String>::new(), "{encryption}");
        if let Some(passphrase) = passphrase {
            // A service's, which has it in its own environment.
            mounted.unmount();
            let mut command = bakfs.command([OsStr::new("mount"), OsStr::new("--foreground"), mnt.as_os_str()]);
            command.env(name, passphrase);
            let mut served = bakfs_testing::process::start(command, false);
            bakfs_testing::until("it is mounted", bakfs_testing::SOON, || served.ended() || is_mounted(&mnt));
            let environment = std::fs::read(format!("/proc/{}/environ", served.pid())).unwrap();
            let core = [core_of(served.pid()), environment].concat();
            assert_eq!(found(&core, &needles), Vec::<String>::new(), "in the foreground");
            bakfs.ok([OsStr::new("umount"), mnt.as_os_str()]);
            served.finish_within(bakfs_testing::SOON).expect(0);
            continue;
        }
        needles.push(("the environment".into(), b"BAKFS_CACHE_DIR=".to_vec()));
        assert!(!found(&core_of(pid), &needles).is_empty(), "the judge can find what is there");
        drop(mounted);
    }
}

fn master_of(bakfs: &Bakfs, passphrase: Option<&str>) -> [u8; 32] {
    use bakfs::crypto::slot::{Credential, open};
    use bakfs::format::config::Stored;
    let stored = Stored::decode(&std::fs::read(bakfs.repo().join("config")).unwrap()).unwrap();
    let Some(passphrase) = passphrase else { return stored.config.open_key.unwrap() };
    let credential = Credential::Passphrase(passphrase.to_string().into());
    let slots = std::fs::read_dir(bakfs.repo().join("keys")).unwrap().flatten();
    let opened =
        slots.filter_map(|slot| open(&std::fs::read(slot.path()).unwrap(), stored.repository, &credential).unwrap());
    opened.map(|master| master.0).next().unwrap()
}

#[test]
fn the_memory_of_a_run_is_readable_to_root_only() {
    let bakfs = Bakfs::as_nobody();
    let fifo = bakfs.path("fifo");
    let mut make = bakfs.wrap("mkfifo");
    make.arg(&fifo);
    run(make).expect(0);
    // It waits for a passphrase that nobody tells.
    let line = format!("cat {}", fifo.display());
    let mut running = bakfs_testing::process::start(bakfs.command(["--password-command", &line, "snapshots"]), false);
    let environment = PathBuf::from(format!("/proc/{}/environ", running.pid()));
    // The files in /proc of a process that others of its user may not look into are root's (proc(5)).
    bakfs_testing::until("its memory is root's", bakfs_testing::SOON, || {
        std::fs::metadata(&environment).is_ok_and(|found| found.uid() == 0)
    });
    let told = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    running.kill();
    drop(told);
}

/// Commands that read the configuration.
const COMMANDS: [&[&str]; 6] =
    [&["run", "web"], &["snapshots"], &["backup", "source"], &["check"], &["config", "check"], &["run", "--all"]];

#[test]
fn a_configuration_that_others_could_change_is_refused_by_every_command() {
    let machine = machine(&format!("{PROFILE}hooks = {{ before = 'touch @/hooked' }}\n"));
    machine.profile("more", "sources = ['@/source']\n");
    machine.ok(["run", "web"]);
    std::fs::remove_file(machine.path("hooked")).unwrap();
    let (folder, file) = (machine.path("config"), machine.path("config/bakfs.toml"));
    let (profiles, profile) = (machine.path("config/profiles.d"), machine.path("config/profiles.d/more.toml"));
    let refused = |what: &str, remedy: &str, commands: &[&[&str]]| {
        for command in commands {
            let outcome = machine.run(*command).refused();
            assert!(outcome.stderr.contains(remedy) || outcome.text().contains(remedy), "{what}: {outcome}");
        }
        assert!(!machine.path("hooked").exists(), "{what}: a hook was run");
    };
    for bits in [0o666, 0o646, 0o664] {
        set_mode(&file, bits);
        refused("the file", &format!("chmod go-w {}", file.display()), &COMMANDS);
    }
    set_mode(&file, 0o644);
    chown(&file, Some(NOBODY), None).unwrap();
    refused("the owner", &format!("chown 0 {}", file.display()), &COMMANDS[..2]);
    chown(&file, Some(0), None).unwrap();
    set_mode(&folder, 0o777);
    refused("the folder", &format!("chmod go-w {}", folder.display()), &COMMANDS[..2]);
    set_mode(&folder, 0o755);
    chown(&folder, Some(NOBODY), None).unwrap();
    refused("the folder's owner", &format!("chown 0 {}", folder.display()), &COMMANDS[..2]);
    chown(&folder, Some(0), None).unwrap();
    set_mode(&profiles, 0o777);
    refused(
        "the folder of profiles",
        &format!("chmod go-w {}", profiles.display()),
        &[&["run", "--all"], &["config", "check"]],
    );
    set_mode(&profiles, 0o755);
    // One profile that is wrong costs no other one.
    set_mode(&profile, 0o666);
    machine.run(["run", "web", "more"]).refused().says(&format!("chmod go-w {}", profile.display()));
    set_mode(&profile, 0o644);
    machine.ok(["run", "--all"]);
    assert!(machine.path("hooked").exists());
}

#[test]
fn a_program_that_others_could_change_is_not_run_by_root() {
    let machine = machine(&format!(
        "{PROFILE}hooks = {{ before = '@/hook now' }}\nnotify = {{ mail = 'root', on-success = true, sendmail = '@/sendmail' }}\n"
    ));
    for name in ["hook", "sendmail"] {
        machine.write(name, &format!("#!/bin/sh\ntouch {}\n", machine.path(&format!("{name}-ran")).display()));
        set_mode(&machine.path(name), 0o755);
    }
    machine.ok(["run", "web"]);
    for name in ["hook", "sendmail"] {
        assert!(machine.path(&format!("{name}-ran")).exists());
        std::fs::remove_file(machine.path(&format!("{name}-ran"))).unwrap();
        set_mode(&machine.path(name), 0o777);
    }
    let outcome = machine.run(["run", "web"]);
    assert_ne!(outcome.code, 0, "{outcome}");
    let told = outcome.says(&format!("chmod go-w {}", machine.path("hook").display()));
    told.says(&format!("chmod go-w {}", machine.path("sendmail").display()));
    assert!(!machine.path("hook-ran").exists() && !machine.path("sendmail-ran").exists());
    machine.run(["config", "check"]).expect(1);
}

#[test]
fn a_state_that_others_could_change_makes_root_run_nothing() {
    let machine = machine(&format!("{PROFILE}hooks = {{ finally = 'true' }}\n"));
    machine.ok(["run", "web"]);
    let owed = format!(
        r#"{{"periodicity":"manual","process":999999,"started_secs":1,"finally":["/bin/touch","{}"],"timeout_secs":9}}"#,
        machine.path("owned").display()
    );
    let pending = machine.write("state/pending/web.json", &owed);
    chown(&pending, Some(NOBODY), None).unwrap();
    let outcome = machine.run(["run", "--recover"]);
    assert!(!machine.path("owned").exists(), "{outcome}");
    assert!(outcome.stderr.contains("chown 0"), "{outcome}");
}

#[test]
fn secrets_that_others_could_read_are_refused_by_every_command() {
    let machine = machine(PROFILE);
    machine.ok(["run", "web"]);
    let keys = std::fs::read_dir(machine.path("config/keys")).unwrap();
    let key = keys.flatten().next().unwrap().path();
    for bits in [0o644, 0o640, 0o602] {
        set_mode(&key, bits);
        for command in [&["snapshots"][..], &["run", "web"], &["check"], &["config", "check"], &["backup", "source"]] {
            let outcome = machine.run(command).expect(1);
            let remedy = format!("chmod 600 {}", key.display());
            assert!(outcome.stderr.contains(&remedy) || outcome.text().contains(&remedy), "{outcome}");
        }
        let mnt = machine.path("mnt");
        machine.run([OsStr::new("mount"), mnt.as_os_str()]).expect(1).says("chmod 600 ");
    }
    // By hand a key that others may read or could have written is told of: there may be nothing else in a rescue.
    let by_hand = [OsStr::new("--password-file"), key.as_os_str(), OsStr::new("snapshots")];
    set_mode(&key, 0o644);
    machine.ok(by_hand).says("others may read the secrets in");
    set_mode(&key, 0o646);
    machine.ok(by_hand).says("others may read the secrets in");
    chown(&key, Some(1000), None).unwrap();
    set_mode(&key, 0o600);
    machine.ok(by_hand).says("belongs to user 1000");
    // What is handed over as a descriptor is whoever's it was.
    let inner = machine.command(["--password-file", "/dev/stdin", "snapshots"]);
    let mut command = machine.bakfs.wrap("sh");
    command.args(["-c", "exec \"$@\" < \"$0\""]).arg(&key).arg(inner.get_program()).args(inner.get_args());
    assert_eq!(run(command).expect(0).stderr, "");
    chown(&key, Some(0), None).unwrap();
    set_mode(&key, 0o600);
    let quiet = machine.ok(by_hand);
    assert_eq!(quiet.stderr, "");
    // Of the configuration it is refused.
    let password = machine.path("password");
    std::fs::copy(&key, &password).unwrap();
    machine.configure(&format!("password-file = '@/password'\n{PROFILE}"));
    machine.ok(["snapshots"]);
    set_mode(&password, 0o644);
    for command in [&["snapshots"][..], &["run", "web"], &["backup", "source"]] {
        machine.run(command).expect(1).says(&format!("chmod 600 {}", password.display()));
    }
    chown(&password, Some(NOBODY), None).unwrap();
    set_mode(&password, 0o600);
    machine.run(["snapshots"]).expect(1).says(&format!("chown 0 {}", password.display()));
}

#[test]
fn what_is_made_has_its_own_modes_whatever_the_umask() {
    bakfs_testing::need_root();
    for umask in ["000", "077", "022"] {
        let bakfs = Bakfs::empty();
        set_mode(&bakfs.path(""), 0o755);
        let shell = |line: &str| {
            let mut command = bakfs.wrap("sh");
            let program = bakfs_testing::cli::program();
            command.args(["-c", &format!("umask {umask}; {} \"$@\"", program.display()), "sh"]);
            command.args(line.split_whitespace().map(|word| word.replace('@', bakfs.path("").to_str().unwrap())));
            command.env("BAKFS_CACHE_DIR", bakfs.path("made/caches/cache")).env_remove("BAKFS_REPO");
            command.env("BAKFS_SYSTEM_ROOT", bakfs.path("machine"));
            run(command).expect(0)
        };
        std::fs::create_dir_all(bakfs.path("machine/etc/cron.d")).unwrap();
        bakfs_testing::write(
            &bakfs.path("config/bakfs.toml"),
            format!(
                "repo = '{0}/a/b/repo'\nstate-dir = '{0}/made/states/state'\nlog-dir = '{0}/made/logs/log'\n\
                 metrics-file = '{0}/metrics/deep/b.prom'\n[profile.p]\nsources = ['{0}/source']\nschedule = ['daily']\n",
                bakfs.path("").display()
            ),
        );
        bakfs.make_dir("source");
        bakfs_testing::write(&bakfs.path("source/page"), "hello\n");
        [
            "man @/man/deep",
            "schedule install --systemd",
            "schedule install --cron",
            "init",
            "run p",
            "mount --log @/mountlogs/x/mount.log @/mnt",
            "umount @/mnt",
            "restore latest @/rest",
        ]
        .iter()
        .for_each(|line| drop(shell(line)));
        let at = |name: &str| bakfs.path(name);
        for name in
            ["made/caches", "made/caches/cache", "made/states/state", "made/logs/log", "mountlogs/x", "a/b/repo"]
        {
            assert_eq!(mode(&at(name)) & 0o777, 0o700, "{umask} {name}");
        }
        for name in ["metrics", "metrics/deep", "a", "a/b"] {
            assert_eq!(mode(&at(name)), 0o755, "{umask} {name}");
        }
        assert_eq!(mode(&at("rest")) & 0o022, 0, "{umask}");
        assert_eq!(mode(&at("metrics/deep/b.prom")), 0o644, "{umask}");
        let pages =
            std::fs::read_dir(at("man/deep/man1")).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        assert!(pages.len() > 10);
        for path in pages.iter().chain(&[at("machine/etc/cron.d/bakfs")]) {
            assert_eq!(mode(path), 0o644, "{umask} {path:?}");
        }
        for name in ["man", "man/deep", "man/deep/man1", "machine/etc/systemd/system"] {
            assert_eq!(mode(&at(name)), 0o755, "{umask} {name}");
        }
        let mut open = Vec::new();
        private(&at("made"), &mut open);
        private(&at("mountlogs"), &mut open);
        assert!(open.is_empty(), "{umask}: {open:?}");
    }
}

/// Collects what others could read or write below a folder, were it not for the folder.
fn private(folder: &Path, open: &mut Vec<(PathBuf, u32)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if mode(&path) & 0o022 != 0 {
            open.push((path.clone(), mode(&path)));
        }
        if path.is_dir() {
            private(&path, open);
        }
    }
}

#[test]
fn root_writes_through_no_link() {
    let machine = machine(&format!("metrics-file = '@/shared/b.prom'\n{PROFILE}"));
    let victim = machine.write("victim", "precious\n");
    std::fs::create_dir(machine.path("shared")).unwrap();
    std::fs::create_dir(machine.path("log")).unwrap();
    set_mode(&machine.path("shared"), 0o1777);
    symlink(&victim, machine.path("shared/b.prom")).unwrap();
    symlink(&victim, machine.path("log/bakfs.log")).unwrap();
    machine.run(["run", "web"]).says("is a link");
    assert_eq!(machine.text("victim"), "precious\n");
    assert!(machine.text("shared/b.prom").contains("bakfs_"), "the link was replaced");
    // A folder of logs that is a link, and the log of a mount.
    std::fs::remove_dir_all(machine.path("log")).unwrap();
    std::fs::create_dir(machine.path("elsewhere")).unwrap();
    symlink(machine.path("elsewhere"), machine.path("log")).unwrap();
    machine.run(["run", "web"]).says("is a link");
    let log = machine.path("mount.log");
    symlink(&victim, &log).unwrap();
    let mnt = machine.path("mnt");
    let args = [OsStr::new("mount"), OsStr::new("--log"), log.as_os_str(), mnt.as_os_str()];
    machine.run(args).expect(1).says("is a link");
    std::fs::remove_dir_all(machine.path("state/locks")).unwrap();
    symlink(machine.path("elsewhere"), machine.path("state/locks")).unwrap();
    machine.run(["run", "web"]).expect(1).says("is a link");
    assert_eq!(std::fs::read_dir(machine.path("elsewhere")).unwrap().count(), 0);
    assert_eq!(machine.text("victim"), "precious\n");
}

#[test]
fn a_cache_that_is_not_ours_is_not_mapped() {
    let machine = machine(PROFILE);
    machine.ok(["run", "web"]);
    let cache = std::fs::read_dir(machine.path("cache")).unwrap().flatten().map(|entry| entry.path());
    let cache = cache.filter(|path| path.is_dir()).max_by_key(|path| path.file_name().unwrap().len()).unwrap();
    chown(&cache, Some(NOBODY), None).unwrap();
    machine.ok(["snapshots"]).says("Working without a cache");
    chown(&cache, Some(0), None).unwrap();
    set_mode(&cache, 0o777);
    machine.ok(["snapshots"]).says("chmod go-w ");
    set_mode(&cache, 0o700);
    assert_eq!(machine.ok(["snapshots"]).stderr, "");
}

#[test]
fn a_cache_below_somebody_elses_folder_is_told_in_a_sentence_and_once() {
    let (bakfs, source) = Bakfs::with_source();
    std::fs::write(source.join("file"), "content").unwrap();
    let theirs = bakfs.make_dir("theirs");
    chown(&theirs, Some(NOBODY), None).unwrap();
    let cache = theirs.join("cache").display().to_string();
    let mnt = bakfs.path("mnt").display().to_string();
    for args in [&["backup", source.to_str().unwrap()][..], &["snapshots"], &["stats"], &["check"], &["mount", &mnt]] {
        let outcome = bakfs.ok(["--cache-dir", &cache].iter().chain(args));
        let lines: Vec<_> = outcome.stderr.lines().filter(|line| line.contains("cache")).collect();
        let is_sentence = |line: &&str| {
            line.starts_with("bakfs: warning: Working without a cache")
                && line.ends_with("name another folder with --cache-dir")
        };
        assert!(lines.len() == 1 && lines.iter().all(is_sentence), "{outcome}");
        assert!(!outcome.stderr.contains("WARN"), "{outcome}");
    }
    bakfs.adopt(bakfs.path("mnt")).unmount();
}

#[test]
fn what_was_typed_gives_no_commands_to_the_terminal() {
    let bakfs = Bakfs::new();
    let wild = "x\u{1b}[31m\ny\u{2066}z\u{9b}";
    for args in [
        &["backup", "--host", wild, "source"][..],
        &["snapshots", wild],
        &["--repo", wild, "snapshots"],
        &["run", wild],
        &["restore", wild, "target"],
        &[wild],
        &["--cache-size", wild, "snapshots"],
    ] {
        let outcome = bakfs.run(args).refused();
        let raw = outcome.stderr.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{2066}');
        assert_eq!(raw, None, "{outcome}");
    }
    let outcome = bakfs.run(["--repo", "user:needle@host:/path", "snapshots"]).refused().says("sftp://user@host/path");
    assert!(!outcome.stderr.contains("needle"), "{outcome}");
}
