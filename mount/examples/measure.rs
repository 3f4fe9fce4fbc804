//! Measures.
#![allow(clippy::unwrap_used)]
#[path = "../tests/support/mod.rs"]
mod support;
use bakfs_mount::tree::ROOT_INO;
use bakfs_mount::{Mount, Options};
use std::sync::Arc;
use support::{Model, pattern};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (dirs, per, push) = (a[2].parse::<usize>().unwrap(), a[3].parse::<usize>().unwrap(), a[4] == "1");
    let tree = Model::new();
    let day = tree.dir(ROOT_INO, "day");
    for d in 0..dirs {
        let dir = tree.dir(day, &format!("d{d:05}"));
        for i in 0..per {
            tree.file(dir, &format!("f{i:04}"), pattern((d * 1000 + i) as u64, 4096));
        }
    }
    let big: Arc<[u8]> = pattern(1, 1 << 30).into();
    tree.file(ROOT_INO, "big", big);
    let mut o = Options { push_small_files: push, ..Options::default() };
    if let Some(t) = a.get(5) {
        o.threads = t.parse().unwrap();
    }
    let m = Mount::start(Arc::new(tree), std::path::Path::new(&a[1]), &o).unwrap();
    println!("ready");
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).unwrap() > 0 {
        println!("{:?}", m.requests());
        line.clear();
    }
    m.unmount().or_else(|_| m.unmount_lazily()).unwrap();
}
