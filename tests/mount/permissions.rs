//! Promise: who may read what on the mount is who may read it at the source, access lists included.

use bakfs_testing::cli::{Bakfs, mount_options};
use bakfs_testing::hostile::{acl, tag};
use bakfs_testing::users::{NOBODY, ROOT, User, acting_as};
use rustix::fs::{Access, AtFlags, CWD, XattrFlags};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

const MEMBER: User = User { uid: 1001, gid: 1002, groups: &[4321] };
const USERS: [User; 3] = [ROOT, MEMBER, NOBODY];

const MODES: [u32; 10] = [0o000, 0o400, 0o440, 0o444, 0o111, 0o711, 0o750, 0o755, 0o070, 0o007];
const OWNERS: [(u32, u32); 4] = [(0, 0), (1001, 0), (0, 4321), (65_534, 1002)];

type List = &'static [(u16, u16, u32)];

/// Access lists whose mask, named users and groups give other rights than the mode alone would.
const LISTS: [List; 5] = {
    use tag::{GROUP, GROUP_OBJ, MASK, NO_ID, OTHER, USER, USER_OBJ};
    [
        // The mode shows the mask, rwx, for a group that may do nothing.
        &[(USER_OBJ, 7, NO_ID), (USER, 7, 65_534), (GROUP_OBJ, 0, NO_ID), (MASK, 7, NO_ID), (OTHER, 0, NO_ID)],
        &[(USER_OBJ, 6, NO_ID), (USER, 0, 1001), (GROUP_OBJ, 7, NO_ID), (MASK, 5, NO_ID), (OTHER, 4, NO_ID)],
        &[(USER_OBJ, 6, NO_ID), (GROUP_OBJ, 0, NO_ID), (GROUP, 5, 4321), (MASK, 5, NO_ID), (OTHER, 0, NO_ID)],
        // The mask takes from the named user what the entry gives.
        &[(USER_OBJ, 7, NO_ID), (USER, 7, 65_534), (GROUP_OBJ, 7, NO_ID), (MASK, 0, NO_ID), (OTHER, 5, NO_ID)],
        &[
            (USER_OBJ, 0, NO_ID),
            (USER, 5, 1001),
            (GROUP_OBJ, 0, NO_ID),
            (GROUP, 5, 1002),
            (MASK, 7, NO_ID),
            (OTHER, 0, NO_ID),
        ],
    ]
};

/// Plants a file and a folder for each owner with each mode and each list; returns their names.
fn plant(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for (uid, gid) in OWNERS {
        let patterns = MODES.iter().map(|mode| (*mode, None));
        let lists = LISTS.iter().enumerate().map(|list| (0o600, Some(list)));
        for (mode, list) in patterns.chain(lists) {
            let number = list.map_or("mode".into(), |(index, _)| format!("list{index}"));
            for kind in ["file", "dir"] {
                let name = format!("{kind}-{uid}-{gid}-{mode:03o}-{number}");
                let path = root.join(&name);
                if kind == "dir" {
                    std::fs::create_dir(&path).unwrap();
                    std::fs::write(path.join("inside"), b"inside").unwrap();
                } else {
                    std::fs::write(&path, b"content").unwrap();
                }
                chown(&path, Some(uid), Some(gid)).unwrap();
                std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
                if let Some((_, list)) = list {
                    let name = "system.posix_acl_access";
                    rustix::fs::setxattr(&path, name, &acl(list), XattrFlags::empty()).unwrap();
                }
                names.push(name);
            }
        }
    }
    names
}

/// What a user may do with a path, as errors by name.
fn rights(path: &Path) -> Vec<String> {
    let access = |what: Access| format!("{:?}", rustix::fs::accessat(CWD, path, what, AtFlags::EACCESS));
    vec![
        format!("read {:?}", std::fs::File::open(path).err().map(|error| error.raw_os_error())),
        format!("list {:?}", std::fs::read_dir(path).err().map(|error| error.raw_os_error())),
        format!("search {:?}", std::fs::metadata(path.join("inside")).err().map(|e| e.raw_os_error())),
        format!("R_OK {}", access(Access::READ_OK)),
        format!("X_OK {}", access(Access::EXEC_OK)),
    ]
}

fn compare_rights(source: &Path, shown: &Path, names: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for user in USERS {
        for name in names {
            let paths: [PathBuf; 2] = [source.join(name), shown.join(name)];
            let [there, here] = paths.map(|path| acting_as(user, || rights(&path)));
            if there != here {
                wrong.push(format!("{name} as {}: source {there:?}, mount {here:?}", user.uid));
            }
        }
    }
    wrong
}

#[test]
fn access_on_the_mount_is_access_at_the_source() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::new();
    std::fs::set_permissions(bakfs.path("."), PermissionsExt::from_mode(0o755)).unwrap();
    let source = bakfs.make_dir("source");
    let names = plant(&source);
    assert_eq!(names.len(), 120);
    bakfs.backup([&source]);
    let mount = bakfs.mount_with(&["--allow-other"], bakfs.path("mnt"));
    let wrong = compare_rights(&source, &mount.at("latest", &source), &names);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The judge can fail: with the lists gone, rights differ.
#[test]
fn lost_access_lists_are_noticed() {
    bakfs_testing::need_root();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let [with, without] = ["with", "without"].map(|name| dir.path().join(name));
    for root in [&with, &without] {
        std::fs::create_dir(root).unwrap();
        plant(root);
    }
    let names = plant_names(&with);
    assert!(compare_rights(&with, &without, &names).is_empty());
    for name in names.iter().filter(|name| name.contains("list")) {
        rustix::fs::removexattr(without.join(name), "system.posix_acl_access").unwrap();
    }
    assert!(compare_rights(&with, &without, &names).len() > 10);
}

fn plant_names(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_mount_is_private_read_only_and_without_privileges() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::new();
    std::fs::set_permissions(bakfs.path("."), PermissionsExt::from_mode(0o755)).unwrap();
    let source = bakfs.make_dir("source");
    std::fs::write(source.join("file"), b"content").unwrap();
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    let (options, kind) = mount_options(mount.path()).unwrap();
    let options: Vec<_> = options.split(',').collect();
    assert!(["ro", "nosuid", "nodev"].iter().all(|wanted| options.contains(wanted)), "{options:?}");
    assert!(kind.starts_with("fuse"), "{kind}");
    let shown = mount.at("latest", &source).join("file");
    assert_eq!(std::fs::read(&shown).unwrap(), b"content");
    let stranger = acting_as(NOBODY, || std::fs::read(&shown).map_err(|error| error.raw_os_error()));
    assert_eq!(stranger, Err(Some(libc::EACCES)), "without --allow-other");
}

#[test]
fn secrets_and_caches_are_for_their_owner_only() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    std::fs::write(source.join("file"), b"content").unwrap();
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    assert_eq!(std::fs::read(mount.at("latest", &source).join("file")).unwrap(), b"content");
    let keys = bakfs_testing::files_below(&bakfs.path("config"));
    assert!(!keys.is_empty(), "the first backup makes a key");
    let private = keys.into_iter().chain(bakfs_testing::files_below(&bakfs.path("cache")));
    for (path, _) in private {
        // Its own mode, or that of a folder bakfs made above it, keeps others out.
        let dirs = path.ancestors().take_while(|above| *above != bakfs.path("."));
        let closed = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o077 == 0;
        assert!(dirs.into_iter().any(closed), "others can read {}", path.display());
    }
}
