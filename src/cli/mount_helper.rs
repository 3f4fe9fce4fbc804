//! What mount(8) runs for file systems of type `fuse.bakfs`, and for lines of /etc/fstab:
//!
//! ```text
//! /var/lib/bakfs/repo  /mnt/history  fuse.bakfs  noauto,allow_other  0 0
//! ```
//!
//! mount(8) calls `mount.fuse.bakfs SOURCE MOUNTPOINT [-sfnv] [-N ns] [-o options] [-t type]`; where
//! only fuse3's own helper is installed, that one calls `bakfs SOURCE MOUNTPOINT -o options`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Options of mount(8) that mean nothing to a FUSE program, or what it does in any case.
const IGNORED: [&str; 26] = [
    "defaults",
    "ro",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "_netdev",
    "nofail",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "atime",
    "noatime",
    "relatime",
    "async",
    "sync",
    "diratime",
    "nodiratime",
    "noexec",
    "default_permissions",
    "rw",
];

/// Translates a call by mount(8) into arguments of `bakfs`; `None` where it is no such call.
///
/// `rw` is taken for mount(8)'s default: the mount is read-only whatever it says.
pub fn translate(args: &[OsString]) -> Option<Result<Vec<OsString>, String>> {
    let program = Path::new(args.first()?).file_name()?.as_bytes();
    let by_fuse3 = args.len() >= 5 && args.get(3)? == "-o" && args.get(1)?.as_bytes().first() == Some(&b'/');
    if !(program.starts_with(b"mount.") || by_fuse3) {
        return None;
    }
    Some(arguments(args))
}

fn arguments(args: &[OsString]) -> Result<Vec<OsString>, String> {
    let usage = || "usage: mount.fuse.bakfs REPOSITORY MOUNTPOINT [-o OPTIONS]".to_string();
    let [source, mountpoint] =
        args.get(1..3).and_then(|pair| <&[OsString; 2]>::try_from(pair).ok()).ok_or_else(usage)?;
    let mut translated = vec![args[0].clone()];
    if !matches!(source.as_bytes(), b"none" | b"bakfs") {
        translated.extend(["--repo".into(), source.clone()]);
    }
    let mut command: Vec<OsString> = vec!["mount".into()];
    // mount(8): with -s options that are not known are tolerated.
    let sloppy = args[3..].iter().any(|flag| flag == "-s");
    let mut rest = args[3..].iter();
    while let Some(flag) = rest.next() {
        match flag.as_bytes() {
            b"-o" => {
                let list = rest.next().ok_or_else(usage)?;
                for option in list.as_bytes().split(|byte| *byte == b',').filter(|option| !option.is_empty()) {
                    let known = translate_option(option, &mut translated, &mut command);
                    if !sloppy {
                        known?;
                    }
                }
            }
            b"-t" | b"-N" => drop(rest.next()),
            b"-v" => translated.push("-v".into()),
            flag if flag.starts_with(b"-") => {}
            _ => return Err(usage()),
        }
    }
    command.push(mountpoint.clone());
    translated.extend(command);
    Ok(translated)
}

fn translate_option(option: &[u8], global: &mut Vec<OsString>, command: &mut Vec<OsString>) -> Result<(), String> {
    let (name, value) = match option.iter().position(|byte| *byte == b'=') {
        Some(at) => (&option[..at], Some(OsStr::from_bytes(&option[at + 1..]).to_owned())),
        None => (option, None),
    };
    let name = String::from_utf8_lossy(name).into_owned();
    match (name.as_str(), value) {
        ("allow_other", None) => command.push("--allow-other".into()),
        ("no_xattrs", None) => command.push("--no-xattrs".into()),
        ("password_file" | "config" | "cache_dir", Some(value)) => {
            global.extend([format!("--{}", name.replace('_', "-")).into(), value]);
        }
        ("io_deadline" | "log" | "host" | "tag" | "path" | "profile", Some(value)) => {
            command.extend([format!("--{}", name.replace('_', "-")).into(), value]);
        }
        (name, None) if IGNORED.contains(&name) => {}
        (name, _) if name.starts_with("x-") || name == "comment" => {}
        (name, _) => {
            return Err(format!(
                "bakfs does not know the mount option `{name}`: it takes allow_other, no_xattrs, password_file=, config=, cache_dir=, io_deadline=, log=, host=, tag=, path= and profile="
            ));
        }
    }
    Ok(())
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
        assert_eq!(call("bakfs none /mnt -o rw"), None);
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
        assert_eq!(call("bakfs mount /mnt"), None);
    }
}
