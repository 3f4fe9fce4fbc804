//! Breadth-first search over all states that can be reached, with the shortest way to a bad one.
//!
//! Of a state that was left only a 64-bit fingerprint and the step that led to it are kept: of 100 million
//! states two would share a fingerprint with a probability of 1 to 3 000. A way is told by doing its
//! steps again.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// What is explored.
pub trait Model {
    /// A state.
    type State: Clone + Eq + Hash;
    /// Who acts.
    type Actor: Copy + Display;
    /// Returns the state everything begins with.
    fn initial(&self) -> Self::State;
    /// Adds all steps that are possible, always in the same order.
    fn steps(&self, state: &Self::State, into: &mut Vec<(Self::Actor, &'static str, Self::State)>);
    /// Returns what is wrong with a state.
    fn fault(&self, state: &Self::State) -> Option<String>;
    /// Returns which of the things that ought to be possible a state shows, as bits.
    fn sights(&self, state: &Self::State) -> u32;
}

/// What was found.
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// Everything that was shown to be possible.
    pub sights: u32,
    /// What is wrong at the end of the shortest bad way, and its steps.
    pub fault: Option<(String, Vec<String>)>,
}

/// How a state was reached first.
struct Origin {
    parent: u32,
    step: u16,
}

/// Explores a model to its end, or to its first fault.
pub fn explore<M: Model>(model: &M) -> Explored {
    let initial = model.initial();
    let mut seen: HashSet<u64, BuildHasherDefault<Taken>> = HashSet::default();
    seen.insert(fingerprint(&initial));
    let mut origins = vec![Origin { parent: 0, step: 0 }];
    let mut found = Explored { states: 1, steps: 0, depth: 0, sights: 0, fault: None };
    let mut frontier = vec![(initial, 0)];
    let mut next = Vec::new();
    let mut steps = Vec::new();
    while !frontier.is_empty() {
        for (state, origin) in frontier.drain(..) {
            model.steps(&state, &mut steps);
            found.steps += steps.len();
            for (number, (_, _, reached)) in steps.drain(..).enumerate() {
                if !seen.insert(fingerprint(&reached)) {
                    continue;
                }
                let index = u32::try_from(origins.len()).expect("memory ends before 2^32 states");
                let step = u16::try_from(number).expect("a state has few successors");
                origins.push(Origin { parent: origin, step });
                found.sights |= model.sights(&reached);
                if let Some(fault) = model.fault(&reached) {
                    found.states = origins.len();
                    found.depth += 1;
                    found.fault = Some((fault, way(model, &origins, index)));
                    return found;
                }
                next.push((reached, index));
            }
        }
        std::mem::swap(&mut frontier, &mut next);
        found.depth += usize::from(!frontier.is_empty());
    }
    found.states = origins.len();
    found
}

/// Does the steps to a state again and tells them.
fn way<M: Model>(model: &M, origins: &[Origin], mut index: u32) -> Vec<String> {
    let mut choices = Vec::new();
    while index != 0 {
        let origin = &origins[index as usize];
        choices.push(origin.step);
        index = origin.parent;
    }
    let mut state = model.initial();
    let mut told = Vec::new();
    for choice in choices.into_iter().rev() {
        let mut steps = Vec::new();
        model.steps(&state, &mut steps);
        let (who, what, reached) = steps.swap_remove(usize::from(choice));
        told.push(format!("{who}: {what}"));
        state = reached;
    }
    told
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut mixer = Mixer::default();
    state.hash(&mut mixer);
    mixer.finish()
}

/// Multiplies words 128 bits wide and folds, as wyhash does; small fields are gathered into words.
#[derive(Default)]
struct Mixer {
    mixed: u64,
    gathered: u64,
    bytes: u32,
}

fn fold(word: u64, factor: u64) -> u64 {
    let product = u128::from(word) * u128::from(factor);
    product as u64 ^ (product >> 64) as u64
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    fn write_u8(&mut self, byte: u8) {
        self.gathered = self.gathered << 8 | u64::from(byte);
        self.bytes += 1;
        if self.bytes == 8 {
            self.bytes = 0;
            self.write_u64(self.gathered);
        }
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = fold(self.mixed ^ word ^ 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db);
        self.mixed = mixed.rotate_left(23).wrapping_add(word);
    }

    /// Discriminants of small enumerations.
    fn write_isize(&mut self, number: isize) {
        self.write_u8(number as u8);
    }

    /// Lengths, which are all the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        fold(self.mixed ^ self.gathered ^ 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3)
    }
}

/// A fingerprint is its own hash.
#[derive(Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed")
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
