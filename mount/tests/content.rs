//! What is read through the kernel is what the tree holds.
#![allow(clippy::unwrap_used)]
mod support;

use std::collections::BTreeSet;
use std::fs;

use bakfs_mount::tree::ROOT_INO;
use support::{Model, Mounted, pattern};

#[test]
fn files_and_listings_equal_the_tree() {
    let tree = Model::new();
    let day = tree.dir(ROOT_INO, "day");
    for i in 0..20_000 {
        tree.file(
            day,
            &format!("file-{i:05}"),
            format!("content {i}").into_bytes(),
        );
    }
    let big = tree.file(ROOT_INO, "big", pattern(7, 5_000_001));
    let mounted = Mounted::new(tree);
    assert!(fs::read(mounted.path().join("big")).unwrap()[..] == mounted.tree.bytes(big)[..]);
    let names: BTreeSet<_> = fs::read_dir(mounted.path().join("day"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<_> = (0..20_000).map(|i| format!("file-{i:05}")).collect();
    assert!(names == expected);
    for i in [0, 1, 9_999, 19_999] {
        let text = fs::read_to_string(mounted.path().join(format!("day/file-{i:05}"))).unwrap();
        assert_eq!(text, format!("content {i}"));
    }
}
