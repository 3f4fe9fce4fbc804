//! Promise: no stored bytes crash or exhaust a reader, not even sealed with the right keys. Every parser of
//! stored bytes is given mutations of real objects, bare and behind valid encryption: no panic, bounded memory,
//! and an end to each. What gives an answer not seen before is mutated further.
#![allow(clippy::unwrap_used)]

mod memory;
mod mutate;
mod targets;

use bakfs_testing::{Dice, library};
use mutate::Pool;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use targets::Target;

/// No input takes more memory.
const MAX_MEMORY_BYTES: usize = 256 << 20;
/// An input that takes longer hangs, on any machine.
const HANGS: Duration = Duration::from_secs(60);
/// Inputs of the corpus longer than this are not kept.
const MAX_KEPT_BYTES: usize = 1024;

/// What one target's inputs cost.
#[derive(Default)]
struct Cost {
    inputs: u64,
    slowest: Duration,
    most_bytes: usize,
}

fn corpus(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target.name.replace(' ', "-"))
}

/// Returns the inputs that were kept for a target.
fn kept(target: &Target) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(corpus(target)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Gives one input to a target. Returns its answer, without what differs from input to input.
fn answer(target: &Target, input: &[u8], cost: &mut Cost) -> Result<String, String> {
    let hex = || input.iter().take(4096).map(|byte| format!("{byte:02x}")).collect::<String>();
    memory::start();
    let begun = Instant::now();
    let answer = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    cost.inputs += 1;
    cost.slowest = cost.slowest.max(begun.elapsed());
    cost.most_bytes = cost.most_bytes.max(memory::most_bytes());
    if cost.most_bytes > MAX_MEMORY_BYTES {
        return Err(format!("{}: {} bytes of memory for {}", target.name, cost.most_bytes, hex()));
    }
    if cost.slowest > HANGS {
        return Err(format!("{}: {:?} for {}", target.name, cost.slowest, hex()));
    }
    let answer = answer.map_err(|_| format!("{}: panicked at {}", target.name, hex()))?;
    // Names of objects and numbers are not what makes an answer new.
    Ok(answer.chars().filter(|character| character.is_ascii_alphabetic() && !character.is_ascii_hexdigit()).collect())
}

fn fuzz(target: &Target, seed: u64, time: Duration) -> Result<Cost, String> {
    let mut cost = Cost::default();
    let mut pool = Pool::default();
    for input in target.seeds.iter().cloned().chain(kept(target)) {
        let answer = answer(target, &input, &mut cost)?;
        pool.add(input, answer);
    }
    let known = pool.len();
    let mut dice = Dice::new(seed);
    let begun = Instant::now();
    while begun.elapsed() < time {
        let input = pool.mutant(&mut dice);
        let answer = answer(target, &input, &mut cost)?;
        pool.add_new(input, answer);
    }
    if std::env::var_os("BAKFS_KEEP_CORPUS").is_some() {
        let folder = corpus(target);
        std::fs::create_dir_all(&folder).unwrap();
        for input in pool.inputs().skip(known).filter(|input| input.len() <= MAX_KEPT_BYTES).take(8) {
            let name = &blake3::hash(input).to_hex()[..16];
            std::fs::write(folder.join(name), input).unwrap();
        }
    }
    Ok(cost)
}

#[test]
fn no_stored_bytes_crash_or_exhaust_a_reader() {
    let seed = library::size("SEED", 3, 3);
    let total = Duration::from_secs(library::size("FUZZ_SECS", 20, 4 * 3600));
    let targets = targets::all();
    let mut all = Cost::default();
    let mut failures = Vec::new();
    for target in &targets {
        match fuzz(target, seed, total / targets.len() as u32) {
            Ok(cost) => {
                println!(
                    "fuzzing, {}: {} inputs, the slowest {:.1?}, at most {} KiB",
                    target.name,
                    cost.inputs,
                    cost.slowest,
                    cost.most_bytes >> 10
                );
                assert!(cost.inputs > 20, "{} was tried", target.name);
                all.inputs += cost.inputs;
                all.slowest = all.slowest.max(cost.slowest);
                all.most_bytes = all.most_bytes.max(cost.most_bytes);
            }
            Err(failure) => failures.push(failure),
        }
    }
    println!(
        "fuzzing: seed {seed}, {} targets, {} inputs, {} crashes, the slowest {:.1?}, at most {} MiB",
        targets.len(),
        all.inputs,
        failures.len(),
        all.slowest,
        all.most_bytes >> 20
    );
    assert!(failures.is_empty(), "{failures:#?}");
}
