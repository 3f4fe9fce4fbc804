//! Configurations as a whole.

use super::*;

fn read(files: &[(&str, &str)]) -> Result<Settings> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    Settings::read(&folder.path().join("bakfs.toml"))
}

const BASE: &str = "repo = '/r'\n[repository.far]\nrepo = 's3://b/x'\n[defaults]\nexclude = ['*.tmp']\n\
                    keep = { daily = 7 }\nschedule = ['daily']\n[defaults.hooks]\nbefore = 'a'\ntimeout = '1min'\n\
                    [profile.web]\nsources = ['/srv']\n";

#[test]
fn profiles_inherit_and_have_the_last_word() {
    let own = "sources = ['/etc']\nexclude = ['!keep.tmp']\nrepository = 'far'\nhooks = { after = 'b' }\n\
               default-excludes = false\nweekly = { keep = { last = 8 } }\n[[postgresql]]\ndatabases = ['shop']\n";
    let settings = read(&[("bakfs.toml", BASE), ("profiles.d/db.toml", own), ("profiles.d/notes.txt", "x")]).unwrap();
    let (web, db) = (&settings.profiles["web"], &settings.profiles["db"]);
    assert!(web.excludes.contains(&"/proc/*".to_string()) && web.excludes.ends_with(&["*.tmp".to_string()]));
    assert_eq!(db.excludes, ["*.tmp", "!keep.tmp"]);
    assert_eq!(web.keep, db.keep);
    assert_eq!((web.separate.len(), db.separate.len()), (0, 1));
    assert_eq!(db.hooks.before, web.hooks.before);
    assert_eq!((db.hooks.after.is_some(), db.hooks.timeout_secs), (true, Some(60)));
    assert_eq!(settings.repository_of(web).repo, "/r");
    assert_eq!(settings.repository_of(db).repo, "s3://b/x");
    assert_eq!(db.tags_of(Periodicity::Weekly), ["db", "weekly"]);
    assert!(settings.profile("wbe").unwrap_err().chain().contains("did you mean `web`?"));
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    for (name, text, told) in [
        ("profiles.d/web.toml", "sources = ['/x']\n", "give one of them another name"),
        ("profiles.d/db.toml", "sources = ['x']\n", "absolute path"),
        ("profiles.d/db.toml", "repository = 'fra'\nsources = ['/x']\n", "did you mean `far`?"),
        ("profiles.d/db.toml", "", "nothing to back up"),
        ("profiles.d/daily.toml", "sources = ['/x']\n", "cannot name a profile"),
        ("profiles.d/a b.toml", "sources = ['/x']\n", "cannot name a profile"),
        ("profiles.d/db.toml", "sources = ['/x']\nschedule = ['manual']\n", "cannot be scheduled"),
        ("profiles.d/db.toml", "sources = ['/x']\ncompression = 99\n", "no level"),
        ("profiles.d/db.toml", "sources = ['/x']\ncheck = { share = 'much' }\n", "no share"),
        ("profiles.d/db.toml", "[[postgresql]]\n[[postgresql]]\nport = 5433\n", "the same name `main`"),
        ("profiles.d/db.toml", "[[mysql]]\n[[mysql]]\n", "the same name `main`"),
        ("profiles.d/db.toml", "[[sqlite]]\npath = 'app.db'\n", "path: `app.db` must be an absolute path"),
        ("profiles.d/db.toml", "sources = ['~/x']\n", "no shell has replaced the `~`: write /"),
        ("profiles.d/db.toml", "sources = ['/x']\ntemporary-dir = 'tmp'\n", "temporary-dir: `tmp` must be an absolute"),
        ("profiles.d/db.toml", "sources = ['/x']\nexclude-file = ['$HOME/x']\n", "the variable $HOME"),
        ("profiles.d/db.toml", "sources = ['/x']\nnotify = { sendmail = 'mail' }\n", "notify.sendmail: `mail` must"),
        ("profiles.d/db.toml", "sources = ['/x']\n[[mysql]]\nsocket = 'm.sock'\n", "socket: `m.sock` must"),
        ("profiles.d/db.toml", "sources = ['/x']\n[[postgresql]]\nbin-dir = 'bin'\n", "bin-dir: `bin` must"),
        ("profiles.d/db.toml", "[[postgresql]]\nport = 0\n", "port 0"),
        ("profiles.d/db.toml", "sources = ['/x']\ncheck = { share = '5' }\n", "has no unit: write `5%`"),
        ("profiles.d/db.toml", "sources = ['/x']\nhost = ''\n", "an empty host"),
        ("profiles.d/db.toml", "sources = ['/x']\ntags = ['a,,b']\n", "an empty tag"),
        ("profiles.d/db.toml", "sources = ['/x']\ntags = ['a/b']\n", "cannot be a tag"),
        ("profiles.d/db.toml", "[[command]]\nname = '../x'\nrun = 'x'\n", "cannot name a command"),
        ("profiles.d/db.toml", "sources = ['/x']\nexlude = []\n", "db.toml, line 2: there is no key `exlude`"),
        ("profiles.d/db.toml", "sources = ['/x']\nkeep = { daily = 0 }\n", "keep at least one"),
    ] {
        let error = read(&[("bakfs.toml", BASE), (name, text)]).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Usage);
        assert!(error.chain().contains(told), "{text}: {}", error.chain());
    }
    // Whatever is wrong with one profile, the others stand.
    let texts = [
        "[profile.a]\nsources = ['/a']\n\n[profile.bad]\nsorces = ['/b']\n[[profile.bad.mysql]]\nport = 3307\n\
         [profile.c]\nsources = ['/c']\n[profile.\"worse\"]\nkeep = { daily = 0 }\nsources = ['/d']\n",
        "[profile.bad.hooks]\nbefore = 1\n[profile.a]\nsources = ['/a']\n[profile.c]\nsources = ['/c']\n",
    ];
    let dotted = "[profile.'a.org']\nsources = ['/a']\n[profile.\"a.com\"] # not yet\nsorces = ['/b']\n\
                  [profile.c]\nsources = ['/c']\nhooks.before = \"\"\"\n[ -d /srv ] || exit 1\n\"\"\"\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bakfs.toml");
    std::fs::write(&path, dotted).unwrap();
    let settings = Settings::read_sound(&path).unwrap();
    assert_eq!(settings.profiles.keys().collect::<Vec<_>>(), ["a.org", "c"]);
    assert!(settings.broken["a.com"].contains("line 4"), "{:?}", settings.broken);
    for text in texts {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bakfs.toml");
        std::fs::write(&path, text).unwrap();
        let settings = Settings::read_sound(&path).unwrap();
        assert_eq!(settings.profiles.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert!(settings.broken["bad"].contains("bakfs.toml, line "), "{:?}", settings.broken);
        let worse = settings.broken.get("worse");
        assert!(worse.is_none_or(|why| why.contains("line 11")), "{worse:?}");
        assert!(Settings::read(&path).is_err() && settings.profile("bad").is_err());
    }
    let error = read(&[("bakfs.toml", "[[defaults.sqlite]]\npath = '/x'\n")]).unwrap_err();
    assert!(error.chain().contains("belong to a profile"), "{}", error.chain());
}

#[test]
fn what_editors_and_shells_put_into_files_is_understood_or_refused() {
    let base = "\u{feff}repo = '/r'\r\n[profile.web]\r\nsources = ['/srv']\r\ntags = ['a,b', 'c']\r\n\
                hooks.before = \"\"\"\r\ntrue\r\ntrue\r\n\"\"\"\r\n[schedule]\r\njitter = '0s'\r\n";
    let settings = read(&[("bakfs.toml", base)]).unwrap();
    let web = &settings.profiles["web"];
    assert_eq!(web.tags, ["a", "b", "c"]);
    assert_eq!(web.hooks.before.as_ref().unwrap().to_string(), "true\ntrue\n");
    assert_eq!(settings.schedule.jitter_secs, 0);
    for (text, told) in [
        ("repo = '~/repo'\n", "repo: `~/repo` must be an absolute path (no shell"),
        ("repo = 'repo'\n", "repo: `repo` must be an absolute path, or a URL"),
        ("repo = ''\n", "repo: it is empty"),
        ("repo = '/r'\n[repository.far]\nrepo = '../far'\n", "repository.far.repo: `../far` must be"),
        ("repo = '/r'\npassword-file = 'pass'\n", "password-file: `pass` must be"),
        ("repo = '/r'\ncache-dir = '$XDG_CACHE_HOME/x'\n", "cache-dir: "),
        ("repo = '/r'\npassword-file = '/p'\npassword-command = 'x'\n", "give one of them"),
        ("repo = '/r'\n[defaults]\nexclude-file = ['x']\n[profile.a]\nsources = ['/a']\n", "exclude-file: `x` must"),
    ] {
        let error = read(&[("bakfs.toml", text)]).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Usage, "{text}");
        assert!(error.chain().contains(told), "{text}: {}", error.chain());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bakfs.toml");
    std::fs::write(&path, "\u{feff}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
    assert!(Settings::read(&path).unwrap_err().chain().contains("UTF-16"));
    std::fs::write(&path, BASE).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("profiles.d")).unwrap();
    let error = Settings::read(&path).unwrap_err();
    assert!(error.chain().contains("Cannot list the profiles"), "{}", error.chain());
}
