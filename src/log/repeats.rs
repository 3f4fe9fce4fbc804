//! Says a thing once, and then how often: what goes wrong four times a second fills no log.

use std::collections::HashMap;

/// So many texts are known; when there are more, all are forgotten.
const MAX_TEXTS: usize = 1000;

#[derive(Debug)]
struct Count {
    times: u64,
    told: u64,
}

/// What a log has said, and how often it has happened since.
#[derive(Debug, Default)]
pub struct Repeats {
    texts: HashMap<String, Count>,
}

impl Repeats {
    /// Takes note of a text, and returns what is to be written: the text where it is new, and with a count when it has
    /// come 10, 100, 1000 times and so on.
    pub fn note(&mut self, text: &str) -> Vec<String> {
        if let Some(count) = self.texts.get_mut(text) {
            count.times += 1;
            if count.times != count.told.saturating_mul(10) {
                return Vec::new();
            }
            count.told = count.times;
            return vec![counted(text, count.times)];
        }
        let mut lines = if self.texts.len() >= MAX_TEXTS { self.drain() } else { Vec::new() };
        self.texts.insert(text.to_string(), Count { times: 1, told: 1 });
        lines.push(text.to_string());
        lines
    }

    /// Forgets all texts, and returns those that came again since they were told, with their counts.
    pub fn drain(&mut self) -> Vec<String> {
        let untold = self.texts.drain().filter(|(_, count)| count.times > count.told);
        let mut lines: Vec<_> = untold.map(|(text, count)| counted(&text, count.times)).collect();
        lines.sort();
        lines
    }
}

fn counted(text: &str, times: u64) -> String {
    format!("{text} (repeated: {times} times)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_said_once_and_then_how_often() {
        let mut repeats = Repeats::default();
        let lines: Vec<_> = (0..2500).flat_map(|_| repeats.note("away")).collect();
        let counts = ["", " (repeated: 10 times)", " (repeated: 100 times)", " (repeated: 1000 times)"];
        assert_eq!(lines, counts.map(|count| format!("away{count}")));
        assert_eq!(repeats.note("other"), ["other"]);
        assert_eq!(repeats.drain(), ["away (repeated: 2500 times)"]);
        assert_eq!(repeats.note("away"), ["away"], "what is forgotten is said again");
    }

    #[test]
    fn no_number_of_texts_takes_more_than_its_memory_and_no_count_is_lost() {
        let mut repeats = Repeats::default();
        let mut lines = 0;
        for round in 0..3 * MAX_TEXTS {
            lines += repeats.note(&round.to_string()).len() + repeats.note(&round.to_string()).len();
            assert!(repeats.texts.len() <= MAX_TEXTS);
        }
        assert_eq!(lines + repeats.drain().len(), 6 * MAX_TEXTS, "each was said, and that it came twice");
    }
}
