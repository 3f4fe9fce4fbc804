//! Another tree takes a mount's place, as soon as nobody is in it, and without a moment in which nothing is there.
#![allow(clippy::unwrap_used)]
mod support;

use bakfs_mount::tree::ROOT_INO;
use bakfs_mount::{MountError, Options};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Model, Mounted, eventually};

fn tree(text: &str) -> Model {
    let tree = Model::new();
    tree.file(ROOT_INO, "file", text.as_bytes());
    tree
}

#[test]
fn a_mount_in_use_keeps_its_place_and_another_takes_it_afterwards() {
    let mounted = Mounted::new(tree("old"));
    let open = fs::File::open(mounted.path().join("file")).unwrap();
    let new = Arc::new(tree("new"));
    let refused = mounted.mount.replace(new.clone(), &Options::default());
    assert!(matches!(refused, Err(MountError::Busy(_))));
    assert_eq!(std::io::read_to_string(&open).unwrap(), "old");
    drop(open);
    // What asks often is no use of the mount, and nobody sees an empty directory meanwhile.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = 0;
            while !stop.load(Ordering::Relaxed) {
                let text = fs::read_to_string(mounted.path().join("file")).unwrap();
                assert!(text == "old" || text == "new", "{text}");
                looks += 1;
            }
            looks
        });
        let mut replaced = None;
        eventually("it is replaced", || {
            replaced = mounted.mount.replace(new.clone(), &Options::default()).ok();
            replaced.is_some()
        });
        let replaced = replaced.unwrap();
        eventually("the old one has ended", || !mounted.mount.is_serving());
        assert_eq!(fs::read_to_string(mounted.path().join("file")).unwrap(), "new");
        stop.store(true, Ordering::Relaxed);
        assert!(looking.join().unwrap() > 0);
        // The old one has no hold on the place any more.
        mounted.mount.unmount().unwrap();
        assert!(replaced.is_in_place() && mounted.path().join("file").exists());
        replaced.unmount().unwrap();
    });
    assert!(!mounted.path().join("file").exists());
}
