//! What is damaged, as it is found: by object, by frame and by chunk.

use super::{Affected, Finding, MAX_AFFECTED, MAX_PROBLEMS, Part, Subject};
use crate::id::{ChunkId, ObjectId};
use crate::repo::index::Index;
use crate::store::Object;
use std::collections::{HashMap, HashSet};

/// Frames of a pack that cannot be read.
enum Frames {
    All,
    These(HashSet<u32>),
}

/// Findings, and which chunks they concern.
#[derive(Default)]
pub struct Damage {
    findings: Vec<Finding>,
    by_subject: HashMap<Subject, usize>,
    packs: HashMap<ObjectId, (usize, Frames)>,
    chunks: HashMap<ChunkId, usize>,
    affected: HashMap<(usize, Part, Vec<u8>), usize>,
}

impl Damage {
    /// Adds a problem and returns the number of its finding.
    pub fn add(&mut self, subject: Subject, problem: String) -> usize {
        let findings = &mut self.findings;
        let at = *self.by_subject.entry(subject).or_insert_with(|| {
            findings.push(Finding {
                subject,
                is_lost: false,
                problems: Vec::new(),
                more_problems: 0,
                affected: Vec::new(),
                more_affected: false,
            });
            findings.len() - 1
        });
        let finding = &mut self.findings[at];
        if finding.problems.contains(&problem) {
            return at;
        }
        if finding.problems.len() < MAX_PROBLEMS {
            finding.problems.push(problem);
        } else {
            finding.more_problems += 1;
        }
        at
    }

    /// Adds a problem of an object.
    pub fn object(&mut self, object: Object, problem: String) {
        self.add(Subject::Object(object), problem);
    }

    /// Adds a pack of which nothing can be read.
    pub fn pack(&mut self, id: ObjectId, problem: String) {
        let finding = self.add(Subject::Object(Object::Pack(id)), problem);
        self.findings[finding].is_lost = true;
        self.packs.insert(id, (finding, Frames::All));
    }

    /// Adds a frame that cannot be read.
    pub fn frame(&mut self, id: ObjectId, number: u32, problem: String) {
        let finding = self.add(Subject::Object(Object::Pack(id)), problem);
        let (_, frames) = self.packs.entry(id).or_insert_with(|| (finding, Frames::These(HashSet::new())));
        if let Frames::These(numbers) = frames {
            numbers.insert(number);
        }
    }

    /// Adds a chunk that is wrong wherever it is.
    pub fn chunk(&mut self, subject: Subject, id: ChunkId, problem: String) {
        if self.chunks.contains_key(&id) {
            return;
        }
        let finding = self.add(subject, problem);
        self.chunks.insert(id, finding);
    }

    /// Returns whether a chunk was told to be wrong.
    pub fn has_chunk(&self, id: &ChunkId) -> bool {
        self.chunks.contains_key(id)
    }

    /// Returns whether any chunk may be concerned.
    pub fn has_chunks(&self) -> bool {
        !self.chunks.is_empty() || !self.packs.is_empty()
    }

    /// Returns the finding because of which a chunk cannot be read: none of its places is sound.
    pub fn of_chunk(&self, index: &Index, id: &ChunkId) -> Option<usize> {
        if let Some(finding) = self.chunks.get(id) {
            return Some(*finding);
        }
        let mut found = None;
        for location in index.find_all(id) {
            let (finding, frames) = self.packs.get(&location.pack.id)?;
            match frames {
                Frames::These(numbers) if !numbers.contains(&location.frame.number) => return None,
                _ => found = found.or(Some(*finding)),
            }
        }
        found
    }

    /// Adds a path that a finding concerns in a snapshot; snapshots come oldest first.
    pub fn concerns(&mut self, finding: usize, path: &[u8], part: Part, snapshot: &str) {
        let affected = &mut self.findings[finding].affected;
        let key = (finding, part, path.to_vec());
        if let Some(at) = self.affected.get(&key) {
            let known = &mut affected[*at];
            if known.last != snapshot {
                known.last = snapshot.to_string();
                known.snapshots += 1;
            }
            return;
        }
        if affected.len() >= MAX_AFFECTED {
            self.findings[finding].more_affected = true;
            return;
        }
        self.affected.insert(key, affected.len());
        let (first, last) = (snapshot.to_string(), snapshot.to_string());
        affected.push(Affected { path: path.to_vec(), part, first, last, snapshots: 1 });
    }

    /// Returns the findings in the order of their objects.
    pub fn into_findings(mut self) -> Vec<Finding> {
        self.findings.sort_by_key(|finding| match finding.subject {
            Subject::Index => (0, None),
            Subject::Object(object) => (1, Some(object)),
        });
        for finding in &mut self.findings {
            finding.affected.sort_by(|a, b| a.path.cmp(&b.path));
        }
        self.findings
    }
}
