//! What a first backup stored before it was killed is not stored again.

use bakfs_testing::cli::Bakfs;

#[test]
fn packs_of_a_killed_first_backup_are_used_by_the_next() {
    let (bakfs, source) = Bakfs::with_source();
    for n in 0..40u8 {
        std::fs::write(source.join(n.to_string()), vec![n; 20_000]).unwrap();
    }
    bakfs.backup([&source]);
    // As if it had been killed between its last pack and its index.
    for kind in ["index", "snapshots"] {
        bakfs.objects(kind).iter().for_each(|(file, _)| std::fs::remove_file(file).unwrap());
    }
    std::fs::remove_dir_all(bakfs.path("cache")).unwrap();
    // Its snapshot was never there to be seen.
    std::fs::remove_dir_all(bakfs.path("state/known")).unwrap();
    let before = bakfs.objects("packs");
    let summary = bakfs.backup([&source]);
    assert_eq!(summary.number("read_bytes"), 800_000);
    let after = bakfs.objects("packs");
    assert!(before.iter().all(|pack| after.contains(pack)));
    // Nothing was stored again: at most a pack of the pages whose directories changed since.
    assert!(summary.number("added_bytes") < 20_000, "{summary:?}");
    bakfs.ok(["check", "--read-data"]);
    let restored = bakfs.path("restored");
    bakfs.ok(["restore".as_ref(), "latest".as_ref(), restored.as_os_str()]);
    let file = restored.join(source.strip_prefix("/").unwrap()).join("39");
    assert_eq!(std::fs::read(file).unwrap(), vec![39; 20_000]);
}
