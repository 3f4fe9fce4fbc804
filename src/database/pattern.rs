//! Patterns of `exclude`: names of databases, or globs.

use globset::{GlobBuilder, GlobMatcher};

/// Patterns that name what is left out.
pub struct Patterns<'a>(Vec<Pattern<'a>>);

struct Pattern<'a> {
    text: &'a str,
    glob: Option<GlobMatcher>,
}

impl Pattern<'_> {
    fn is_of(&self, name: &str) -> bool {
        self.text == name || self.glob.as_ref().is_some_and(|glob| glob.is_match(name))
    }
}

impl<'a> Patterns<'a> {
    /// Reads patterns; what is no glob is a name.
    pub fn new(patterns: &'a [String]) -> Self {
        let glob = |text: &str| {
            let built = GlobBuilder::new(text).backslash_escape(true).build();
            built.ok().map(|glob| glob.compile_matcher())
        };
        Patterns(patterns.iter().map(|text| Pattern { text, glob: glob(text) }).collect())
    }

    /// Returns whether any of them names a database.
    pub fn any(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_of(name))
    }

    /// Returns those that name none.
    pub fn idle<'b>(&self, names: impl Iterator<Item = &'b str> + Clone) -> Vec<String> {
        let is_idle = |pattern: &&Pattern<'_>| !names.clone().any(|name| pattern.is_of(name));
        self.0.iter().filter(is_idle).map(|pattern| pattern.text.to_string()).collect()
    }
}
