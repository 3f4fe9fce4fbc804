//! Promise: what is no complete listing is a failed request, whatever it looks like and whichever objects it is of: no
//! command takes it for an answer, and nothing is deleted by it. A listing that does not end ends.

use bakfs::error::{ErrorKind, Result};
use bakfs::format::header::Suite;
use bakfs::place::Place;
use bakfs::remote::{Environment, Policy, RemoteOptions};
use bakfs::store::remote::RemoteStore;
use bakfs::store::{ObjectKind, Store};
use bakfs_testing::bent::{Bend, Endless, SHAPES, Server, Shape};
use bakfs_testing::cli::Bakfs;
use bakfs_testing::library::{self, Source, TINY_CHUNKS};
use bakfs_testing::process::{most_memory_bytes, start};
use bakfs_testing::{noise, servers, write};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A listing that does not end is given up within this, and within so much memory.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_MEMORY_BYTES: u64 = 64 << 20;

fn environment(server: &Server) -> [(&'static str, String); 3] {
    [
        ("AWS_ACCESS_KEY_ID", "tester".into()),
        ("AWS_SECRET_ACCESS_KEY", "secret".into()),
        ("AWS_ENDPOINT_URL", server.url.clone()),
    ]
}

/// A store that does not wait long.
fn store_at(server: &Server) -> Arc<dyn Store> {
    let Place::Remote(place) = Place::parse("s3://bucket/r").unwrap() else { panic!() };
    let variables = environment(server);
    let environment = Environment::of(variables.iter().map(|(name, value)| (*name, value.as_str())));
    let pause = Duration::from_millis(1);
    let policy = Policy { max_tries: 3, first_pause: pause, max_pause: pause, ..Policy::default() };
    Arc::new(RemoteStore::with_policy(&place, &RemoteOptions::default(), environment, policy).unwrap())
}

fn bakfs_at(server: &Server) -> Bakfs {
    let environment = environment(server).map(|(name, value)| (name.to_owned(), value)).into();
    Bakfs::at(&servers::Place { url: "s3://bucket/r".into(), environment })
}

/// Four snapshots, each with a pack and an index object of its own, and pins.
fn furnish(server: &Server, source: &Path) {
    let store = store_at(server);
    library::init(&*store, Suite::Aes256GcmSiv, 1, TINY_CHUNKS).unwrap();
    let repository = library::open(store).unwrap();
    for day in 0..4 {
        library::plant(source, day as u64);
        library::back_up(&repository, source, day).unwrap();
    }
    for listed in repository.snapshots().unwrap() {
        repository.pin(listed.id, "audit").unwrap();
    }
}

const COMMANDS: [&str; 5] = ["prune", "snapshots", "backup", "check", "restore"];

fn run(server: &Server, command: &str, source: &Path) -> Result<()> {
    let repository = library::open(store_at(server))?;
    match command {
        "prune" => library::prune(&repository).map(drop),
        "snapshots" => repository.snapshots().map(drop),
        "backup" => library::back_up(&repository, source, 9).map(drop),
        "check" => library::check(&repository).map(drop),
        _ => {
            let history = library::read_all(&repository)?;
            assert!(history.is_whole(), "wrong: {:?}", history.warnings);
            Ok(())
        }
    }
}

/// Returns what was there before and is not any more, but for announcements.
fn gone(before: &BTreeMap<String, Vec<u8>>, server: &Server) -> Vec<String> {
    let after = server.objects();
    before.keys().filter(|path| !path.contains("/marks/") && !after.contains_key(*path)).cloned().collect()
}

#[test]
fn what_is_no_listing_is_a_failed_request_for_every_kind_of_object_and_command() {
    let (server, source) = (Server::start(1), Source::new());
    furnish(&server, &source.path());
    let honest = server.objects();
    for command in COMMANDS {
        run(&server, command, &source.path()).unwrap();
        server.restore(honest.clone());
    }
    let (mut asked, mut met) = (0, 0);
    let mut failures = Vec::new();
    for (number, shape) in SHAPES.into_iter().enumerate() {
        for kind in ObjectKind::ALL {
            for page in [1, 2] {
                // Each with a prune, and with one of the others in turn.
                let others = library::size("BENT", 1, 4) as usize;
                let turn = 1 + (number + page + kind as usize) % 4;
                let others = (0..others).map(|more| COMMANDS[1 + (turn - 1 + more) % 4]);
                for command in ["prune"].into_iter().chain(others) {
                    server.bend(Some((kind.folder(), Bend::Page(page, shape))));
                    let done = run(&server, command, &source.path());
                    let bent = server.bend(None);
                    let lost = gone(&honest, &server);
                    server.restore(honest.clone());
                    asked += 1;
                    met += usize::from(bent > 0);
                    let what = format!("{command}, page {page} of {}/ is {shape:?}", kind.folder());
                    match done {
                        Ok(()) if bent > 0 => failures.push(format!("{what}: taken for a listing")),
                        Err(error) if bent == 0 => failures.push(format!("{what}: {}", error.chain())),
                        Err(error) if error.kind() != ErrorKind::Io => {
                            failures.push(format!("{what}: {:?}, {}", error.kind(), error.chain()));
                        }
                        _ => {}
                    }
                    if !lost.is_empty() {
                        failures.push(format!("{what}: deleted {lost:?}"));
                    }
                }
            }
        }
    }
    println!("bent listings: {asked} commands, {met} of them met one, {} wrong", failures.len());
    assert!(met * 10 > asked * 9, "most are to meet what they are made for");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_an_earlier_listing_had_is_looked_for_before_it_counts_as_gone() {
    let (server, source) = (Server::start(10), Source::new());
    furnish(&server, &source.path());
    let honest = server.objects();
    for kind in ObjectKind::ALL {
        let store = store_at(&server);
        let mut before = store.list(kind).unwrap();
        assert!(before.len() > 1, "{kind:?}");
        server.bend(Some((kind.folder(), Bend::Page(1, Shape::Less))));
        let error = store.list(kind).unwrap_err();
        assert!(error.kind() == ErrorKind::Io && error.chain().contains("which is there"), "{}", error.chain());
        server.bend(None);
        // What was removed here, or by others, is not missed.
        before.sort_by_key(|listed| listed.id);
        let mut left = server.objects();
        left.remove(&format!("r/{}", kind.object(before[0].id)));
        server.restore(left);
        store.delete(kind.object(before[1].id)).unwrap();
        assert_eq!(store.list(kind).unwrap(), before[2..]);
        server.restore(honest.clone());
    }
}

#[test]
fn prune_and_snapshots_fail_where_a_page_is_a_web_page_or_an_error() {
    let server = Server::start(2);
    let bakfs = bakfs_at(&server);
    let source = bakfs.make_dir("source");
    bakfs.ok(["init"]);
    for day in 1..=4 {
        write(&source.join(format!("file{day}")), noise(day, 100_000));
        bakfs.backup_at(&format!("2026-03-0{day}T03:00:00Z"), &source);
        std::fs::remove_file(source.join(format!("file{day}"))).unwrap();
    }
    let honest = server.objects();
    for (shape, page) in [(Shape::Html, 2), (Shape::Error, 1)] {
        server.bend(Some(("snapshots", Bend::Page(page, shape))));
        for command in ["snapshots", "prune", "check"] {
            let outcome = bakfs.run([command]).expect(1).says("the answer is no whole listing").says("snapshots/");
            assert_eq!(outcome.stdout, b"", "{outcome}");
        }
        server.bend(None);
        assert_eq!(gone(&honest, &server), Vec::<String>::new());
    }
    bakfs.ok(["prune"]);
    bakfs.ok(["check"]);
    assert_eq!(bakfs.json(["snapshots"]).as_array().unwrap().len(), 4);
}

#[test]
fn a_listing_that_does_not_end_is_given_up_in_bounded_time_and_memory() {
    let server = Server::start(1000);
    let bakfs = bakfs_at(&server);
    bakfs.ok(["init", "--encryption", "none"]);
    for folder in ["snapshots", "marks", "index"] {
        for endless in [Endless::Ids, Endless::Junk, Endless::Nothing] {
            // Of the kinds that may be many the short form tries one.
            if folder != "snapshots" && endless == Endless::Ids && !library::is_long() {
                continue;
            }
            server.bend(Some((folder, Bend::Endless(endless))));
            let outcome = start(bakfs.command(["snapshots"]), false).finish_within(PATIENCE).expect(1);
            assert!(outcome.stderr.contains(folder) && outcome.stderr.contains("listing"), "{outcome}");
        }
    }
    // Key slots are listed before anything is known of a repository.
    let server = Server::start(1000);
    let bakfs = bakfs_at(&server);
    bakfs.ok(["init"]);
    for endless in [Endless::Ids, Endless::Junk, Endless::Nothing, Endless::OnePage] {
        server.bend(Some(("keys", Bend::Endless(endless))));
        start(bakfs.command(["snapshots"]), false).finish_within(PATIENCE).expect(1).says("keys/");
    }
    let memory = most_memory_bytes();
    println!("endless listings: at most {} MiB of memory", memory >> 20);
    assert!(memory < MAX_MEMORY_BYTES, "{memory}");
}
