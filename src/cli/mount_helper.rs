//! What mount(8) runs for file systems of type `fuse.bakfs`, and for lines of /etc/fstab:
//!
//! ```text
//! /var/lib/bakfs/repo  /mnt/history  fuse.bakfs  noauto,allow_other  0 0
//! ```
//!
//! mount(8) calls `mount.fuse.bakfs SOURCE MOUNTPOINT [-sfnv] [-N ns] [-o options] [-t type]`, whatever the name leads to:
//! a link, a copy, another name of the file. Where only fuse3's own helper is installed, that one calls
//! `bakfs SOURCE MOUNTPOINT -o options` (mount.fuse3(8)), and `bakfs MOUNTPOINT -o options` for a source that is empty.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Options of mount(8) that say what is so in any case, or mean nothing where nothing can be changed. `suid` and `dev` are
/// among them, as fuse3's helper always says them: a history is mounted `nosuid,nodev` whoever asks.
const IGNORED: &[&str] = &[
    "defaults",
    "ro",
    "rw",
    "auto",
    "noauto",
    "nouser",
    "_netdev",
    "nofail",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "async",
    "sync",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "mand",
    "nomand",
    "silent",
    "loud",
    "symfollow",
    "default_permissions",
    "owner",
    "group",
];
/// What a person is told to choose from.
const KNOWN: &str = "allow_other, noexec, nosymfollow, no_xattrs, accept_unencrypted, password_file=, config=, cache_dir=, \
                     cache_size=, connections=, limit_upload=, limit_download=, io_deadline=, refresh=, log=, fsname=, \
                     host=, tag=, path= and profile=";

/// Translates a call by mount(8) into arguments of `bakfs`; `None` where it is no such call.
///
/// `rw` is taken for mount(8)'s default: the mount is read-only whatever it says.
pub fn translate(args: &[OsString]) -> Option<Result<Vec<OsString>, String>> {
    let program = Path::new(args.first()?).file_name()?.as_bytes();
    if program.starts_with(b"mount.") {
        return Some(arguments(&args[0], args.get(1), args.get(2), args.get(3..).unwrap_or_default()));
    }
    // No command of bakfs takes -o.
    let is_path = |arg: &OsString| arg.as_bytes().first() == Some(&b'/');
    match args {
        [_, mountpoint, option, _] if option == "-o" && is_path(mountpoint) => {
            Some(arguments(&args[0], Some(&"none".into()), Some(mountpoint), &args[2..]))
        }
        [_, source, mountpoint, option, _, ..]
            if option == "-o" && is_path(mountpoint) && source.as_bytes().first() != Some(&b'-') =>
        {
            Some(arguments(&args[0], Some(source), Some(mountpoint), &args[3..]))
        }
        _ => None,
    }
}

fn arguments(
    program: &OsString,
    source: Option<&OsString>,
    mountpoint: Option<&OsString>,
    flags: &[OsString],
) -> Result<Vec<OsString>, String> {
    let usage = || "usage: mount.fuse.bakfs REPOSITORY MOUNTPOINT [-o OPTIONS]".to_string();
    let (source, mountpoint) = source.zip(mountpoint).ok_or_else(usage)?;
    let mut call = Call { global: vec![program.clone()], command: vec!["mount".into()], no_exec: false };
    if !matches!(source.as_bytes(), b"" | b"none" | b"bakfs") {
        call.global.extend(["--repo".into(), source.clone()]);
    }
    // mount(8): with -s options that are not known are tolerated.
    let sloppy = flags.iter().any(|flag| flag == "-s");
    let mut rest = flags.iter();
    while let Some(flag) = rest.next() {
        match flag.as_bytes() {
            b"-o" => {
                let list = rest.next().ok_or_else(usage)?;
                for option in list.as_bytes().split(|byte| *byte == b',').filter(|option| !option.is_empty()) {
                    let known = call.take(option);
                    if !sloppy {
                        known?;
                    }
                }
            }
            b"-t" | b"-N" => drop(rest.next()),
            flag if flag.first() == Some(&b'-') => {
                for letter in &flag[1..] {
                    match letter {
                        b'v' => call.global.push("-v".into()),
                        b'f' => call.command.push("--fake".into()),
                        _ => {}
                    }
                }
            }
            _ => return Err(usage()),
        }
    }
    if call.no_exec {
        call.command.push("--noexec".into());
    }
    call.command.push(mountpoint.clone());
    call.global.extend(call.command);
    Ok(call.global)
}

/// A call of `bakfs mount` that is being put together.
struct Call {
    /// Before the command.
    global: Vec<OsString>,
    command: Vec<OsString>,
    /// What the last option said that speaks of it (mount(8), "user").
    no_exec: bool,
}

impl Call {
    fn take(&mut self, option: &[u8]) -> Result<(), String> {
        let (name, value) = match option.iter().position(|byte| *byte == b'=') {
            Some(at) => (&option[..at], Some(OsStr::from_bytes(&option[at + 1..]).to_owned())),
            None => (option, None),
        };
        let name = String::from_utf8_lossy(name).into_owned();
        let long = format!("--{}", name.replace('_', "-"));
        match (name.as_str(), value) {
            ("noexec" | "user" | "users", None) => self.no_exec = true,
            ("exec", None) => self.no_exec = false,
            // libmount says who the user was.
            ("user", Some(_)) => self.no_exec = true,
            ("allow_other" | "no_xattrs" | "nosymfollow", None) => self.command.push(long.into()),
            ("accept_unencrypted", None) => self.global.push(long.into()),
            (
                "password_file" | "config" | "cache_dir" | "cache_size" | "connections" | "limit_upload"
                | "limit_download",
                Some(value),
            ) => self.global.extend([long.into(), value]),
            ("io_deadline" | "refresh" | "log" | "host" | "tag" | "path" | "profile", Some(value)) => {
                self.command.extend([long.into(), value]);
            }
            ("fsname", Some(value)) => self.command.extend(["--fs-name".into(), value]),
            ("remount", _) => {
                return Err(
                    "A history that is mounted cannot be changed by `remount`: `bakfs umount` it and mount it \
                            again; what the kernel alone heeds, as noexec, `mount -i -o remount,bind,noexec` sets"
                        .into(),
                );
            }
            (name, None) if IGNORED.contains(&name) => {}
            ("subtype", Some(value)) if value == "bakfs" => {}
            (name, _) if name.starts_with("x-") || name.starts_with("X-") || name == "comment" => {}
            (name, _) => {
                return Err(format!(
                    "bakfs does not know the mount option `{}`: it takes {KNOWN}",
                    super::output::readable(name.as_bytes())
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Option<Result<Vec<String>, String>> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        translate(&args).map(|found| found.map(|args| args.into_iter().map(|arg| arg.into_string().unwrap()).collect()))
    }

    #[test]
    fn calls_by_mount_become_arguments() {
        let found =
            call("/sbin/mount.fuse.bakfs /repo /mnt -n -o rw,noauto,allow_other,password_file=/p -t fuse.bakfs");
        let wanted = "/sbin/mount.fuse.bakfs --repo /repo --password-file /p mount --allow-other /mnt";
        assert_eq!(found.unwrap().unwrap().join(" "), wanted);
        assert_eq!(call("bakfs none /mnt -o rw").unwrap().unwrap().join(" "), "bakfs mount /mnt");
        // As fuse3's own helper calls.
        for place in ["s3://bucket/web1", "sftp://user@host/repo", "offsite", "backup", "relative/repo"] {
            let found = call(&format!("bakfs {place} /mnt -o rw,noexec,dev,suid")).unwrap().unwrap().join(" ");
            assert_eq!(found, format!("bakfs --repo {place} mount --noexec /mnt"));
        }
        assert_eq!(call("bakfs /mnt -o rw,dev,suid").unwrap().unwrap().join(" "), "bakfs mount /mnt");
        for args in ["restore latest -o x", "-v ls /x -o y", "mount /mnt", "backup /home"] {
            assert_eq!(call(&format!("bakfs {args}")), None);
        }
        assert_eq!(
            call("bakfs /repo /mnt -o rw,x-systemd.automount").unwrap().unwrap().join(" "),
            "bakfs --repo /repo mount /mnt"
        );
        assert_eq!(
            call("mount.bakfs /repo /mnt -o profile=main,host=web1").unwrap().unwrap().join(" "),
            "mount.bakfs --repo /repo mount --profile main --host web1 /mnt"
        );
        assert!(call("mount.bakfs /repo /mnt -o colour=red").unwrap().unwrap_err().contains("colour"));
        assert!(call("mount.bakfs /repo").unwrap().is_err());
        assert!(call("mount.bakfs /repo /mnt -o ro,remount").unwrap().unwrap_err().contains("umount"));
    }

    #[test]
    fn the_last_word_on_programs_counts() {
        for (options, no_exec) in [
            ("noexec", true),
            ("user", true),
            ("user=web", true),
            ("user,exec", false),
            ("exec,noexec", true),
            ("ro", false),
        ] {
            let found = call(&format!("mount.bakfs /repo /mnt -o {options}")).unwrap().unwrap();
            assert_eq!(found.contains(&"--noexec".into()), no_exec, "{options}");
        }
        let found = call("mount.bakfs /repo /mnt -fnv -o refresh=5,log=/l,nosymfollow,fsname=backups,cache_size=2G");
        let wanted = "mount.bakfs --repo /repo -v --cache-size 2G mount --fake --refresh 5 --log /l --nosymfollow --fs-name backups /mnt";
        assert_eq!(found.unwrap().unwrap().join(" "), wanted);
    }
}
