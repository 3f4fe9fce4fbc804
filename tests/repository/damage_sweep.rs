//! Promise: every change of stored bytes is noticed. Every byte of every object of a small repository is
//! flipped, every object cut at every length, and every object put in every other's place: nothing wrong
//! is ever served, nothing panics, and `check` names the object.

use bakfs::check::{Subject, check_unopened};
use bakfs::format::header::Suite;
use bakfs::store::Object;
use bakfs_testing::library::{self, History, Source, TINY_CHUNKS};
use bakfs_testing::stores::{MemStore, Objects};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// One change of stored bytes: the object, what is done, and the bytes it gets (`None`: it is removed).
struct Mutation {
    path: String,
    what: String,
    bytes: Option<Vec<u8>>,
}

/// What a sweep saw.
#[derive(Debug, Default)]
struct Tally {
    mutations: u64,
    detected: u64,
    harmless: u64,
    failures: Vec<String>,
}

/// A repository of three days, the first forgotten and the last pinned, and what it shows.
struct World {
    objects: Objects,
    /// With the forgotten day: a damaged mark may bring it back.
    history: History,
    visible: History,
    /// Objects of a repository with the same keys, of other content.
    twin: Objects,
}

fn build(suite: Suite, seed: u8, days: u64) -> Objects {
    let source = Source::new();
    let store = Arc::new(MemStore::default());
    library::init(&*store, suite, seed, TINY_CHUNKS).unwrap();
    for day in 0..days {
        library::plant(&source.path(), day + u64::from(seed) * 10);
        // Opened anew, as the next day's backup does.
        let repository = library::open(store.clone()).unwrap();
        library::back_up(&repository, &source.path(), day as i64).unwrap();
    }
    assert_eq!(store.objects(), store.after_power_cut());
    store.objects()
}

impl World {
    fn new(suite: Suite) -> World {
        let store = Arc::new(MemStore::of(build(suite, 0, 3)));
        let repository = library::open(store.clone()).unwrap();
        let history = library::read_all(&repository).unwrap();
        assert!(history.is_whole() && history.snapshots.len() == 3, "{:?}", history.warnings);
        repository.pin(repository.snapshots().unwrap()[2].id, "kept").unwrap();
        library::forget_oldest(&repository).unwrap();
        let objects = store.objects();
        let visible = library::read_all(&library::open(store).unwrap()).unwrap();
        assert!(visible.is_whole() && visible.snapshots.len() == 2);
        assert!(library::check(&repository).unwrap().findings.is_empty());
        World { objects, history, visible, twin: build(suite, 1, 1) }
    }

    /// Every byte flipped (one bit; all eight in the long form) and every truncation of an object.
    fn flips_and_cuts(&self, path: &str) -> Vec<Mutation> {
        let bytes = &self.objects[path];
        let mutation = |what: String, bytes: Vec<u8>| Mutation { path: path.into(), what, bytes: Some(bytes) };
        let mut all = Vec::new();
        for at in 0..bytes.len() {
            let bits = if library::is_long() { 0..8 } else { at % 8..at % 8 + 1 };
            for bit in bits {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 1 << bit;
                all.push(mutation(format!("bit {bit} of byte {at} flipped"), damaged));
            }
            all.push(mutation(format!("cut to {at} bytes"), bytes[..at].to_vec()));
        }
        for extra in [1, 16, 4096] {
            let longer = bytes.iter().copied().chain(std::iter::repeat_n(0, extra)).collect();
            all.push(mutation(format!("{extra} bytes longer"), longer));
        }
        all
    }

    /// Every object, of this repository and its twin, in the place of every other.
    fn swaps(&self) -> Vec<Mutation> {
        let mut all = Vec::new();
        for (path, bytes) in &self.objects {
            for (other, replacement) in self.objects.iter().chain(&self.twin) {
                if replacement != bytes {
                    let what = format!("replaced by {other}");
                    all.push(Mutation { path: path.clone(), what, bytes: Some(replacement.to_vec()) });
                }
            }
            if !path.starts_with("snapshots/") {
                all.push(Mutation { path: path.clone(), what: "removed".into(), bytes: None });
            }
        }
        all
    }

    /// Applies a mutation, reads everything and checks. Says what promise broke; `Ok(false)`: harmless.
    fn judge(&self, mutation: &Mutation) -> Result<bool, String> {
        let mut objects = self.objects.clone();
        match &mutation.bytes {
            Some(bytes) => objects.insert(mutation.path.clone(), Arc::new(bytes.clone())),
            None => objects.remove(&mutation.path),
        };
        let store = Arc::new(MemStore::of(objects));
        let repository = match library::open(store.clone()) {
            Ok(repository) => repository,
            Err(error) => {
                let unopened = check_unopened(&*store).unwrap_or_default();
                let named = unopened.iter().any(|(object, _)| object.path() == mutation.path);
                let said = error.chain();
                // A changed configuration has no other name than its own.
                let of_config = mutation.path == "config" && said.contains("onfig");
                // The slot that is gone was the only one of this key: nothing is left to name.
                let of_key = mutation.path.starts_with("keys/") && mutation.bytes.is_none();
                return match named || of_config || of_key || said.contains(&mutation.path) {
                    true => Ok(true),
                    false => Err(format!("the repository does not open, for another reason: {said}")),
                };
            }
        };
        let history = library::read_all(&repository).map_err(|error| format!("cannot list: {}", error.chain()))?;
        let lies = history.lies(&self.history);
        if !lies.is_empty() {
            return Err(format!("wrong bytes were served: {lies:?}"));
        }
        if history.is_silently_less(&self.visible) {
            return Err("something is missing without a word".into());
        }
        // Checked as `bakfs check` does: by what is stored alone.
        let again = library::open(store).map_err(|error| error.chain())?;
        let report = library::check(&again).map_err(|error| format!("check fails: {}", error.chain()))?;
        let subjects: Vec<Object> = report
            .findings
            .iter()
            .filter_map(|finding| match finding.subject {
                Subject::Object(object) => Some(object),
                Subject::Index => None,
            })
            .collect();
        let named = subjects.iter().any(|object| object.path() == mutation.path);
        let index_named = report.findings.iter().any(|finding| finding.subject == Subject::Index);
        let warned = history.warnings.iter().any(|warning| warning.contains(&mutation.path));
        match (named || warned, &mutation.bytes) {
            (true, _) => Ok(true),
            // A whole mark in another's place hides nothing that was not hidden, and shows nothing wrong.
            _ if mutation.path.starts_with("marks/") => Ok(false),
            // A removed index object has no name left; what it named is found by the packs themselves.
            (false, None) if mutation.path.starts_with("index/") && index_named => Ok(true),
            (false, None) if mutation.path.starts_with("keys/") => Ok(false),
            // A whole other configuration without encryption: then everything else is of another repository.
            (false, Some(_)) if mutation.path == "config" && self.are_all_but_marks(&subjects) => Ok(true),
            _ => Err(format!("check does not name it but {subjects:?}")),
        }
    }

    fn are_all_but_marks(&self, subjects: &[Object]) -> bool {
        let others = self.objects.keys().filter(|path| *path != "config" && !path.starts_with("marks/"));
        others.into_iter().all(|path| subjects.iter().any(|object| object.path() == *path))
    }

    fn sweep(&self, mutations: &[Mutation], tally: &Mutex<Tally>) {
        library::in_parallel(mutations.len() as u64, |number| {
            let mutation = &mutations[number as usize];
            let judged = catch_unwind(AssertUnwindSafe(|| self.judge(mutation)));
            let mut tally = tally.lock();
            tally.mutations += 1;
            match judged {
                Ok(Ok(true)) => tally.detected += 1,
                Ok(Ok(false)) => tally.harmless += 1,
                Ok(Err(failure)) => tally.failures.push(format!("{} {}: {failure}", mutation.path, mutation.what)),
                Err(_) => tally.failures.push(format!("{} {}: panicked", mutation.path, mutation.what)),
            }
        });
    }
}

fn sweep(suite: Suite, mutations: impl Fn(&World) -> Vec<Mutation>) {
    let world = World::new(suite);
    let tally = Mutex::new(Tally::default());
    world.sweep(&mutations(&world), &tally);
    let Tally { mutations, detected, harmless, failures } = tally.into_inner();
    println!(
        "damage, {suite:?}: {} objects of {} bytes, {mutations} mutations, {detected} detected, {harmless} harmless, {} failures",
        world.objects.len(),
        world.objects.values().map(|bytes| bytes.len()).sum::<usize>(),
        failures.len()
    );
    let first: Vec<_> = failures.iter().take(20).collect();
    assert!(failures.is_empty(), "{first:#?}");
    assert_eq!(detected + harmless, mutations);
}

fn every_flip_and_cut(world: &World) -> Vec<Mutation> {
    world.objects.keys().flat_map(|path| world.flips_and_cuts(path)).collect()
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed_with_encryption() {
    sweep(Suite::Aes256GcmSiv, every_flip_and_cut);
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed_without_encryption() {
    sweep(Suite::Plain, every_flip_and_cut);
}

#[test]
fn every_swap_and_every_removal_is_noticed() {
    for suite in [Suite::Aes256GcmSiv, Suite::Plain] {
        sweep(suite, World::swaps);
    }
}

/// An attacker who has kept old objects puts them back, or plants those of another repository.
#[test]
fn planted_objects_serve_nothing_wrong() {
    for suite in [Suite::Aes256GcmSiv, Suite::Plain] {
        let world = World::new(suite);
        let mut planted = 0;
        for (path, bytes) in world.twin.iter().filter(|(path, _)| *path != "config") {
            let mut objects = world.objects.clone();
            objects.insert(path.clone(), bytes.clone());
            let repository = library::open(Arc::new(MemStore::of(objects))).unwrap();
            let history = library::read_all(&repository).unwrap();
            assert_eq!(history.snapshots, world.visible.snapshots, "{path} was planted");
            planted += 1;
        }
        println!("damage, {suite:?}: {planted} objects of another repository planted, 0 wrong bytes served");
    }
}
