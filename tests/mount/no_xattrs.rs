//! A mount that shows no extended attributes gives nobody more than the ACLs it hides.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::process::tool;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn hidden_lists_narrow_the_modes() {
    let (bakfs, source) = Bakfs::with_source();
    let (listed, plain) = (source.join("listed"), source.join("plain"));
    std::fs::write(&listed, "secret").unwrap();
    std::fs::write(&plain, "open").unwrap();
    for file in [&listed, &plain] {
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o644)).unwrap();
    }
    tool("setfacl", ["-m".as_ref(), "u:1234:rwx,u:1235:---".as_ref(), listed.as_os_str()]).expect(0);
    assert_eq!(mode(&listed), 0o674, "the group bits of a file with a list are its mask");
    bakfs.backup([&source]);
    let shown = |options: &[&str]| {
        let mounted = bakfs.mount_with(options, bakfs.path("mnt"));
        let listed = mounted.at("latest", &listed);
        let modes = (mode(&listed), mode(&mounted.at("latest", &plain)));
        let mut names = [0u8; 256];
        let xattrs = rustix::fs::listxattr(listed, &mut names);
        mounted.unmount();
        (modes, xattrs)
    };
    let (modes, xattrs) = shown(&[]);
    assert_eq!(modes, (0o674, 0o644));
    assert!(xattrs.unwrap() > 0);
    let (modes, xattrs) = shown(&["--no-xattrs"]);
    // User 1235 is shut out by the list: neither as one of the group nor of the others may it come in.
    assert_eq!(modes, (0o600, 0o644));
    assert_eq!(xattrs, Err(rustix::io::Errno::OPNOTSUPP));
}
