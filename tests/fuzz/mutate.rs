//! Inputs, and how they are changed.

use bakfs_testing::Dice;
use std::collections::HashSet;

/// No input grows beyond this.
const MAX_INPUT_BYTES: usize = 64 << 10;
/// Inputs that are kept for further changes.
const MAX_INPUTS: usize = 400;

/// Inputs whose answers were new.
#[derive(Default)]
pub struct Pool {
    inputs: Vec<Vec<u8>>,
    answers: HashSet<String>,
}

impl Pool {
    /// Adds an input.
    pub fn add(&mut self, input: Vec<u8>, answer: String) {
        self.answers.insert(answer);
        self.inputs.push(input);
    }

    /// Adds an input if its answer is new.
    pub fn add_new(&mut self, input: Vec<u8>, answer: String) {
        if self.inputs.len() < MAX_INPUTS && self.answers.insert(answer) {
            self.inputs.push(input);
        }
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Returns the inputs, seeds first.
    pub fn inputs(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.inputs.iter()
    }

    fn any(&self, dice: &mut Dice) -> &Vec<u8> {
        &self.inputs[dice.below(self.inputs.len() as u64) as usize]
    }

    /// Returns a changed input.
    pub fn mutant(&self, dice: &mut Dice) -> Vec<u8> {
        let mut input = self.any(dice).clone();
        for _ in 0..1 + dice.below(4) {
            self.change(&mut input, dice);
        }
        input.truncate(MAX_INPUT_BYTES);
        input
    }

    fn change(&self, input: &mut Vec<u8>, dice: &mut Dice) {
        let len = input.len() as u64;
        if len == 0 {
            input.push(dice.roll() as u8);
            return;
        }
        let at = dice.below(len) as usize;
        let end = at + 1 + dice.below((len - at as u64).min(64)) as usize;
        match dice.below(9) {
            0 => input[at] ^= 1 << dice.below(8),
            1 => input[at] = dice.roll() as u8,
            2 => number(input, at, 4, dice),
            3 => number(input, at, 8, dice),
            4 => drop(input.drain(at..end.min(input.len()))),
            5 => input.truncate(at),
            6 => {
                let copy = input[at..end.min(input.len())].to_vec();
                let to = dice.below(len + 1) as usize;
                input.splice(to..to, copy);
            }
            7 => {
                let other = self.any(dice);
                let from = dice.below(other.len() as u64 + 1) as usize;
                let to = (from + dice.below(512) as usize).min(other.len());
                let end = (at + (to - from)).min(input.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
            _ => input.extend((0..dice.below(40)).map(|_| dice.roll() as u8).collect::<Vec<_>>()),
        }
    }
}

/// Writes a number that lengths and counts go wrong at.
fn number(input: &mut [u8], at: usize, len: usize, dice: &mut Dice) {
    let at = if dice.below(2) == 0 { at / 4 * 4 } else { at };
    let Some(place) = input.get_mut(at..at + len) else { return };
    let mut old = [0; 8];
    old[..len].copy_from_slice(place);
    let old = u64::from_le_bytes(old);
    let interesting = [
        0,
        1,
        2,
        old.wrapping_add(1),
        old.wrapping_sub(1),
        old << 8,
        255,
        256,
        1 << 16,
        1 << 22,
        1 << 31,
        u64::from(u32::MAX),
        1 << 32,
        1 << 40,
        1 << 63,
        u64::MAX,
        i64::MAX as u64,
    ];
    let chosen = interesting[dice.below(interesting.len() as u64) as usize];
    place.copy_from_slice(&chosen.to_le_bytes()[..len]);
}
