//! The product by its command line, at a place of any kind.

use bakfs::store::local::LocalStore;
use bakfs::store::{Names, ObjectKind, Store};
use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::compare::{Rules, trees};
use bakfs_testing::servers::Place;
use bakfs_testing::{noise, tools, until_settled, write, zoo};
use std::path::Path;

/// Takes a repository through its life.
pub fn keeps_the_contract(place: &Place) {
    let bakfs = Bakfs::at(place);
    let source = bakfs.make_dir("source");
    zoo::build_zoo(&source);
    for number in 0..60u64 {
        write(&source.join(format!("files/{}/{number}", number % 7)), noise(number, (number * 997) as usize));
    }
    write(&source.join("large"), noise(99, 5_000_000));
    until_settled(&source);
    bakfs.ok(["init"]);
    bakfs.run(["init"]).refused();
    let first = bakfs.backup([&source]).snapshot().to_owned();
    let before = bakfs.path("before");
    tools::copy(&source, &before);

    write(&source.join("files/new"), noise(100, 200_000));
    std::fs::remove_file(source.join("files/3/3")).unwrap();
    until_settled(&source);
    let second = bakfs.backup([&source]).snapshot().to_owned();
    let listed = bakfs.ok(["ls", &second]).text();
    assert!(!listed.trim().is_empty());
    let changed = bakfs.run(["diff", &first, &second]).expect(1).text();
    assert!(changed.contains("files/new") && changed.contains("files/3/3"), "{changed}");

    another_machine_reads_it(place, &bakfs, &source, &second);
    let target = bakfs.path("restored");
    bakfs.ok(["restore", &first, &target.display().to_string()]);
    let restored = target.join(source.strip_prefix("/").unwrap());
    trees(&before, &restored, Rules::COPY).assert_same("the first snapshot, restored");

    bakfs.ok(["forget", &first]);
    bakfs.ok(["prune"]);
    assert_eq!(bakfs.json(["check", "--read-data"])["damaged"], false);
    a_lost_index_is_made_again(place, &bakfs);
    let target = bakfs.path("restored-again");
    bakfs.ok(["restore", &second, &target.display().to_string()]);
    let restored = target.join(source.strip_prefix("/").unwrap());
    trees(&source, &restored, Rules::COPY).assert_same("the second snapshot, after a repair");
}

/// A machine that has nothing but the key mounts the repository and copies from it.
fn another_machine_reads_it(place: &Place, writer: &Bakfs, source: &Path, snapshot: &str) {
    let reader = Bakfs::at(place);
    tools::copy(&writer.path("config/."), &reader.path("config"));
    let mounted = reader.mount();
    let shown = mounted.at(snapshot, source);
    trees(source, &shown, Rules::MOUNT).assert_same("the mount");
    let copy = reader.path("copy");
    tools::copy(&shown, &copy);
    trees(source, &copy, Rules::CP).assert_same("cp -a from the mount");
    mounted.unmount();
}

fn a_lost_index_is_made_again(place: &Place, bakfs: &Bakfs) {
    let store: Box<dyn Store> = match place.url.contains("://") {
        true => Box::new(super::open(place)),
        false => Box::new(LocalStore::new(Path::new(&place.url))),
    };
    let index = store.list(ObjectKind::Index).unwrap();
    store.delete(ObjectKind::Index.object(index[0].id)).unwrap();
    store.barrier(Names::Mine).unwrap();
    bakfs.run(["check"]).expect(1);
    let done = json_of(bakfs.run(["--json", "repair"]).expect(0));
    assert_eq!(done["changed"], true, "{done}");
    assert_eq!(bakfs.json(["check", "--read-data"])["damaged"], false);
}
