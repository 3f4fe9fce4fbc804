//! Promise: what `ls`, `find`, `dump`, `stats`, `completions` and `man` say is what was backed up.

use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::process::tool;
use bakfs_testing::{noise, process, tools, write};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

fn target(snapshot: &str, path: &Path) -> std::ffi::OsString {
    let mut target = std::ffi::OsString::from(format!("{snapshot}:"));
    target.push(path);
    target
}

#[test]
fn ls_shows_names_and_with_l_what_ls_shows() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("plain"), b"12345");
    write(&source.join("deep/er/leaf"), b"x");
    symlink("plain", source.join("link")).unwrap();
    std::fs::set_permissions(source.join("plain"), PermissionsExt::from_mode(0o4750)).unwrap();
    let stamp = std::time::UNIX_EPOCH + std::time::Duration::from_secs(86_400 * 365);
    std::fs::File::options().write(true).open(source.join("plain")).unwrap().set_modified(stamp).unwrap();
    bakfs.backup_at("2026-03-01T03:00:00Z", &source);
    let here = target("latest", &source);
    let ls = |options: &[&str], what: &OsStr| {
        let args = ["ls"].iter().chain(options).map(OsStr::new).chain([what]);
        bakfs.ok(args).text()
    };
    assert_eq!(ls(&[], &here), "deep\nlink\nplain\n");
    let all = ["deep", "deep/er", "deep/er/leaf", "link", "plain"];
    let all: String = all.iter().map(|name| format!("{}\n", source.join(name).display())).collect();
    assert_eq!(ls(&["-R"], &here), all);
    let long = ls(&["-l"], &here);
    let lines: Vec<Vec<&str>> = long.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][0], "drwxr-xr-x", "{long}");
    assert_eq!((lines[1][0], &lines[1][7..]), ("lrwxrwxrwx", &["link", "->", "plain"][..]), "{long}");
    // The world's time zone is UTC.
    assert_eq!((lines[2][0], lines[2][1]), ("-rwsr-x---", "1"), "{long}");
    assert_eq!(&lines[2][4..], ["5", "1971-01-01", "00:00", "plain"], "{long}");
    // A file lists itself; a path may be written without its first slash, and a time has colons.
    let path = source.join("plain").display().to_string();
    for name in ["latest", "2026-03-01", "2026-03-01T03:00", "2026-03-01 05:00:00"] {
        assert_eq!(ls(&[], &target(name, &source.join("plain"))), format!("{path}\n"), "{name}");
        assert_eq!(ls(&[], OsStr::new(&format!("{name}:{}", &path[1..]))), format!("{path}\n"), "{name}");
    }
    let json = bakfs.json([OsStr::new("ls"), here.as_os_str()]);
    let plain = &json.as_array().unwrap()[2];
    assert_eq!(plain["path"], path);
    assert_eq!((&plain["type"], &plain["mode"]), (&"file".into(), &"4750".into()));
    assert_eq!((&plain["size_bytes"], &plain["links"]), (&5.into(), &1.into()));
    assert_eq!(plain["mtime"], "1971-01-01T00:00:00Z");
    assert_eq!(json[1]["target"], "plain");
    bakfs.run([OsStr::new("ls"), &target("latest", &source.join("gone"))]).refused().says("gone");
}

#[test]
fn names_are_raw_in_a_pipe_and_escaped_on_a_terminal() {
    let (bakfs, source) = Bakfs::with_source();
    let name = b"evil\x1b]0;title\x07\xff";
    write(&source.join(OsStr::from_bytes(name)), b"evil");
    bakfs.backup([&source]);
    let here = target("latest", &source);
    let piped = bakfs.ok([OsStr::new("ls"), here.as_os_str()]).stdout;
    assert_eq!(piped, [&name[..], b"\n"].concat());
    for verb in [format!("ls {}", here.display()), "find 'evil*'".into()] {
        let line = format!("{} {verb}", env!("CARGO_BIN_EXE_bakfs"));
        let mut terminal = bakfs.wrap("script");
        terminal.args(["-qec", &line, "/dev/null"]);
        let shown = process::run(terminal).expect(0);
        assert!(!shown.stdout.contains(&0x1b), "{shown}");
        assert!(shown.text().contains("evil\\u{1b}]0;title\\u{7}\\xff"), "{shown}");
    }
    let json = bakfs.json([OsStr::new("ls"), here.as_os_str()]);
    assert!(json[0]["path"].as_str().unwrap().ends_with("\\xff"), "{json}");
}

#[test]
fn find_tells_every_version_once_with_its_snapshots() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("etc/app.conf"), b"one");
    write(&source.join("etc/other"), b"same");
    write(&source.join("var/app.conf.d/Deep.CONF"), b"deep");
    bakfs.backup_at("2026-03-01T03:00:00Z", &source);
    bakfs.backup_at("2026-03-02T03:00:00Z", &source);
    write(&source.join("etc/other"), b"changed");
    bakfs.backup_at("2026-03-03T03:00:00Z", &source);
    write(&source.join("etc/app.conf"), b"four");
    bakfs.backup_at("2026-03-04T03:00:00Z", &source);
    std::fs::remove_file(source.join("etc/app.conf")).unwrap();
    bakfs.backup_at("2026-03-05T03:00:00Z", &source);
    let found = |args: &[&str]| -> Vec<(String, String, String, u64, u64)> {
        let args = ["--json", "find"].iter().chain(args).copied();
        let outcome = bakfs.run(args);
        assert!(matches!(outcome.code, 0 | 1), "{outcome}");
        let json = json_of(outcome);
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let day = |value: &serde_json::Value| text(value)[8..10].to_owned();
        let path = |value: &serde_json::Value| {
            text(value).strip_prefix(source.to_str().unwrap()).unwrap_or_default().to_owned()
        };
        let each = json.as_array().unwrap().iter();
        each.map(|one| {
            let size = one["size_bytes"].as_u64().unwrap();
            (path(&one["path"]), day(&one["first"]), day(&one["last"]), one["snapshots"].as_u64().unwrap(), size)
        })
        .collect()
    };
    let row = |path: &str, first: &str, last: &str, snapshots: u64, size: u64| {
        (path.to_owned(), first.to_owned(), last.to_owned(), snapshots, size)
    };
    let conf = [row("/etc/app.conf", "01", "03", 3, 3), row("/etc/app.conf", "04", "04", 1, 4)];
    assert_eq!(found(&["app.conf"]), conf);
    assert_eq!(found(&["etc/*.conf"]), conf, "with a slash the whole path counts");
    assert_eq!(found(&["/**/etc/app.c*"]), conf);
    assert_eq!(found(&["*.conf"]), conf, "a star does not match a name's capitals");
    let deep = row("/var/app.conf.d/Deep.CONF", "01", "05", 5, 4);
    assert_eq!(found(&["-i", "*.conf"]).last(), Some(&deep));
    assert_eq!(found(&["other"]), [row("/etc/other", "01", "02", 2, 4), row("/etc/other", "03", "05", 3, 7)]);
    assert_eq!(found(&["app.conf", "--snapshot", "2026-03-02"]), [row("/etc/app.conf", "02", "02", 1, 3)]);
    let var = source.join("var");
    assert_eq!(found(&["*", "--path", var.to_str().unwrap()]).len(), 3, "the folder, a folder in it, and a file");
    assert!(found(&["*.conf", "--path", var.to_str().unwrap()]).is_empty());
    bakfs.run(["find", "no-such-name"]).expect(1);
    bakfs.run(["find", "a[b"]).expect(2);
    let text = bakfs.ok(["find", "app.conf"]).text();
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("2026-03-01T03-00-00Z .. 2026-03-03T03-00-00Z  (3)"), "{text}");
}

#[test]
fn dump_streams_a_file_with_its_holes() {
    let (bakfs, source) = Bakfs::with_source();
    let large = noise(5, 9_000_001);
    write(&source.join("large"), &large);
    write(&source.join("empty"), b"");
    let sparse = std::fs::File::create(source.join("sparse")).unwrap();
    use std::os::unix::fs::FileExt;
    sparse.write_all_at(&large[..700_000], 3 << 20).unwrap();
    sparse.set_len(8 << 20).unwrap();
    drop(sparse);
    bakfs.backup([&source]);
    for name in ["large", "empty", "sparse"] {
        let dumped = bakfs.ok([OsStr::new("dump"), &target("latest", &source.join(name))]);
        assert!(dumped.stdout == std::fs::read(source.join(name)).unwrap(), "{name}");
    }
    bakfs.run([OsStr::new("dump"), &target("latest", &source)]).expect(2).says("--archive tar").says("restore");
    // Whoever stops reading early ends the dump.
    let mut shell = bakfs.wrap("bash");
    let line = r#"set -o pipefail; "$0" dump "$1" | head -c 5"#;
    shell.args(["-c", line, env!("CARGO_BIN_EXE_bakfs")]).arg(target("latest", &source.join("large")));
    let outcome = process::run(shell);
    assert!(outcome.code == 1 && outcome.stderr.contains("Broken pipe"), "content is of no use in part: {outcome}");
    assert_eq!(outcome.stdout, large[..5]);
}

#[test]
fn an_archive_unpacks_to_what_was_backed_up() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("a/file"), noise(1, 700_000));
    write(&source.join("a/unaligned"), b"513 bytes".repeat(57).as_slice());
    write(&source.join("empty"), b"");
    write(&source.join("n".repeat(255)), b"a long name");
    // Holes at the start, in between and at the end, one file of nothing else, and one with a long name.
    for (name, runs) in [("holes", &[2_u64 << 20, 5 << 20][..]), ("nothing", &[]), (&"h".repeat(200), &[0])] {
        let file = std::fs::File::create(source.join(name)).unwrap();
        for offset in runs {
            file.write_all_at(&noise(2, 70_000), *offset).unwrap();
        }
        file.set_len(9 << 20).unwrap();
    }
    std::fs::create_dir_all(source.join("d".repeat(120)).join("e".repeat(120))).unwrap();
    symlink("t".repeat(300), source.join("long-link")).unwrap();
    symlink("a/file", source.join("link")).unwrap();
    std::fs::hard_link(source.join("a/file"), source.join("hard")).unwrap();
    let old = std::time::UNIX_EPOCH - std::time::Duration::new(3, 250_000_000);
    std::fs::File::open(source.join("empty")).unwrap().set_modified(old).unwrap();
    std::fs::set_permissions(source.join("a"), PermissionsExt::from_mode(0o2711)).unwrap();
    let mut fifo = Command::new("mkfifo");
    fifo.arg(source.join("fifo"));
    process::run(fifo).expect(0);
    let attribute =
        rustix::fs::setxattr(source.join("empty"), "user.comment", b"a = b", rustix::fs::XattrFlags::empty());
    bakfs.backup([&source]);
    let archive =
        bakfs.ok([OsStr::new("dump"), &target("latest", &source), OsStr::new("--archive"), OsStr::new("tar")]);
    let path = bakfs.path("archive.tar");
    std::fs::write(&path, &archive.stdout).unwrap();
    let unpacked = bakfs.make_dir("unpacked");
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "-xpf"]).arg(&path).arg("-C").arg(&unpacked);
    process::run(tar).expect(0);
    let copy = unpacked.join(source.strip_prefix("/").unwrap());
    tools::nothing("rsync", tools::rsync(&source, &copy, &[]));
    for name in ["holes", "nothing"] {
        let blocks = std::fs::metadata(copy.join(name)).unwrap().blocks();
        assert!(blocks < 1000, "{name} takes {blocks} blocks");
    }
    assert!(archive.stdout.len() < 3 << 20, "{} bytes", archive.stdout.len());
    if attribute.is_ok() {
        let mut value = [0; 16];
        let len = rustix::fs::getxattr(copy.join("empty"), "user.comment", &mut value).unwrap();
        assert_eq!(&value[..len], b"a = b");
    }
}

/// What a terminal shows to somebody who tries, and how they go on.
#[test]
fn a_newcomer_is_helped_on() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("site.conf"), "x");
    bakfs.backup(["--host", "h", source.to_str().unwrap()]);
    let on_terminal = |words: &str| {
        let mut script = bakfs.wrap("script");
        let line = format!("{} {words}", bakfs_testing::cli::program().display());
        script.args(["-qec", &line, "/dev/null"]);
        process::run(script).text().replace('\r', "")
    };
    let listed = on_terminal("snapshots");
    let lines: Vec<_> = listed.lines().collect();
    let column = |line: &str, text: &str| line.find(text).unwrap_or_else(|| panic!("{text}: {listed}"));
    assert_eq!(column(lines[0], "PATHS"), column(lines[1], source.to_str().unwrap()), "{listed}");
    assert_eq!(column(lines[0], "HOST"), column(lines[1], "h  "), "{listed}");
    assert_eq!(on_terminal("diff latest latest"), "Nothing differs\n");
    assert!(
        on_terminal("find site")
            .contains("nothing in 1 snapshot has the name site: a part of a name is written `*site*`")
    );
    assert!(on_terminal("check --read-data").contains(", less than a day ago"));
    let whole = source.join("site.conf");
    bakfs
        .run(["ls", "latest:source/site.conf"])
        .expect(1)
        .says(&format!("paths in it are whole ones: {} is", whole.display()));
    bakfs
        .run(["ls", "h"])
        .expect(1)
        .says("No snapshot is named `h`: write `hosts/h/latest` for the newest of that name");
    bakfs.run(["umount", source.to_str().unwrap()]).expect(2).says("`findmnt -t fuse.bakfs` lists");
}

/// Programs and people get the same numbers from every command: files are no directories.
#[test]
fn files_and_directories_are_counted_apart() {
    let (bakfs, source) = Bakfs::with_source();
    for name in ["one", "below/two", "below/deep/three"] {
        write(&source.join(name), name);
    }
    std::os::unix::fs::symlink("one", source.join("link")).unwrap();
    let above = source.components().count() as u64 - 1;
    let told = |value: &serde_json::Value| ["files", "directories"].map(|field| value[field].as_u64().unwrap());
    let expected = [4, above + 2];
    let dry = bakfs.json(["backup", "--dry-run", source.to_str().unwrap()]);
    assert_eq!(told(&dry), expected, "{dry}");
    let first = bakfs.backup([&source]);
    write(&source.join("one"), "other content");
    let second = bakfs.backup([&source]);
    for made in [&first, &second] {
        assert_eq!(told(&made.0), expected, "{made:?}");
        let parts = ["files_new", "files_changed", "files_unmodified"].map(|field| made.number(field));
        assert_eq!(parts.iter().sum::<u64>(), 4, "{made:?}");
    }
    assert_eq!(told(&bakfs.json(["snapshots"])[0]), expected);
    assert_eq!(told(&bakfs.json(["stats", "latest"])), expected);
    assert_eq!(told(&bakfs.json(["stats"])), expected.map(|number| number * 2));
    let target = bakfs.path("target");
    assert_eq!(told(&bakfs.json(["restore", "latest", target.to_str().unwrap()])), expected);
    let text = bakfs.ok(["restore", "-n", "latest", target.to_str().unwrap()]).text();
    assert!(text.contains("Would restore 4 files, "), "{text}");
}

#[test]
fn stats_count_what_is_there() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("one"), noise(1, 1_000_000));
    write(&source.join("two"), noise(1, 1_000_000));
    bakfs.backup_at("2026-03-01T03:00:00Z", &source);
    bakfs.backup_at("2026-03-02T03:00:00Z", &source);
    let stats = bakfs.json(["stats"]);
    assert_eq!(stats["snapshots"], 2);
    assert_eq!(stats["content_bytes"], 4_000_000);
    assert_eq!(stats["data"]["plain_bytes"], 1_000_000, "equal files are stored once");
    let stored: u64 =
        ["packs", "index", "snapshots", "keys"].iter().flat_map(|kind| bakfs.objects(kind)).map(|(_, len)| len).sum();
    assert_eq!(stats["stored_bytes"], stored);
    assert!((3.5..4.5).contains(&stats["ratio"].as_f64().unwrap()), "{stats}");
    let one = bakfs.json(["stats", "2026-03-01"]);
    assert_eq!((&one["content_bytes"], &one["files_new"]), (&2_000_000.into(), &2.into()));
    for args in [&["stats"][..], &["stats", "latest"]] {
        assert!(bakfs.ok(args).text().contains("MiB"));
    }
}

#[test]
fn the_manual_has_a_page_for_every_command_with_codes_variables_files_and_examples() {
    let bakfs = Bakfs::empty();
    let folder = bakfs.path("man");
    bakfs.ok([OsStr::new("man"), folder.as_os_str()]);
    let mut pages: Vec<String> = Vec::new();
    for section in ["man1", "man5", "man7"] {
        for entry in std::fs::read_dir(folder.join(section)).unwrap() {
            pages.push(entry.unwrap().file_name().into_string().unwrap());
        }
    }
    let path = |name: &str| folder.join(format!("man{}", &name[name.len() - 1..])).join(name);
    for page in
        ["bakfs.1", "bakfs-backup.1", "bakfs-config-check.1", "bakfs-check.1", "bakfs-patterns.7", "bakfs.toml.5"]
    {
        assert!(pages.iter().any(|name| name == page), "{page}: {pages:?}");
    }
    let help = bakfs.ok(["--help"]).text();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for command in commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        let text = std::fs::read_to_string(path(&format!("bakfs-{command}.1"))).unwrap();
        for part in [".SH SYNOPSIS", ".SH \"EXIT STATUS\"", ".SH \"ENVIRONMENT\"", ".SH \"FILES\"", ".SH \"SEE ALSO\""]
        {
            assert!(text.contains(part), "{command}: {part}");
        }
        let has_examples =
            text.contains(".SH \"EXAMPLES\"") && text.contains(&format!("bakfs {}", command.replace('-', "\\-")));
        assert!(has_examples, "{command} has no example");
    }
    for name in &pages {
        let shown = tool("groff", ["-man", "-Tutf8", "-ww", "-P-cbou", path(name).to_str().unwrap()]).expect(0);
        assert_eq!(shown.stderr, "", "{name}");
        let text = shown.text();
        // Remarks in examples of files quote what is typed, as help texts do.
        let is_of_markdown = |line: &&str| line.contains("](") || line.contains('`') && !line.contains('#');
        let left = text.lines().find(is_of_markdown).filter(|_| !name.ends_with(".1"));
        assert_eq!(left, None, "{name} is no Markdown");
    }
    assert!(bakfs.ok(["man"]).text().contains(".SH SYNOPSIS"));
}
