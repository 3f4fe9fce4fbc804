//! The features of a repository: raising one, and keeping whoever does not know it from what it forbids.
//!
//! A record of a feature is a mark, stored several times. Whoever opens a repository reads the marks before it relies on
//! anything else, and again at each step that lists them; a writer has announced itself before it does. So whoever began
//! after a feature was raised knows of it, and those that were there before are among the sessions that
//! [`raise`] names. Records are only ever added: of two that raise at once, both are there.

use crate::crypto::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::feature::{Act, Feature, KNOWN, Required, shown};
use crate::format::mark::{AnyMark, Mark, SessionKind, SessionMark};
use crate::id::ObjectId;
use crate::quantity::counted;
use crate::repo::Repository;
use crate::repo::parallel;
use crate::repo::shared::dated::timestamp;
use crate::repo::shared::marks::Marks;
use crate::repo::stored;
use crate::store::{ObjectKind, Store};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// So many records a feature has: one that is damaged or lost lowers nothing.
pub const COPIES: usize = 3;

/// What came of raising a feature.
#[derive(Debug)]
pub struct Raised {
    /// The records that were written; none where all were there.
    pub records: Vec<ObjectId>,
    /// Who was writing when they were durable, and may not know of the feature: nothing may rely on it before each of
    /// these has ended or was fenced. Whoever begins later knows of it.
    pub sessions: Vec<SessionMark>,
}

/// The features that are known of.
#[derive(Debug, Clone, Default)]
pub struct Features(Vec<Feature>);

/// A feature that a repository has, and how many records say so.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// What they say.
    pub feature: Feature,
    /// How many there are; none of one that only this machine's memory tells of.
    pub records: usize,
}

impl Serialize for Recorded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Feature { number, name, since, text, marks, time, host, .. } = &self.feature;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("number", number)?;
        map.serialize_entry("name", name)?;
        map.serialize_entry("required", self.feature.required().word())?;
        map.serialize_entry("since", since)?;
        map.serialize_entry("text", text)?;
        map.serialize_entry("marks", marks)?;
        map.serialize_entry("raised", &timestamp(*time))?;
        map.serialize_entry("host", host)?;
        map.serialize_entry("is_known", &KNOWN.contains(number))?;
        map.serialize_entry("records", &self.records)?;
        map.end()
    }
}

impl Features {
    /// Collects what records say.
    pub fn of(recorded: &[Recorded]) -> Self {
        recorded.iter().fold(Features::default(), |mut all, recorded| {
            all.add(&recorded.feature);
            all
        })
    }

    /// Returns them, by number; one of which different things were said stands there more than once.
    pub fn list(&self) -> &[Feature] {
        &self.0
    }

    /// Takes in one more record; returns whether it says something new.
    pub(in crate::repo) fn add(&mut self, feature: &Feature) -> bool {
        if self.0.iter().any(|known| known.is_same(feature)) {
            return false;
        }
        self.0.push(feature.clone());
        self.0.sort_by(|a, b| (a.number, &a.name, a.required).cmp(&(b.number, &b.name, b.required)));
        true
    }

    /// Fails with [`ErrorKind::Unsupported`] if a feature that this program does not know forbids something.
    pub fn require(&self, act: Act, at: &str) -> Result<()> {
        self.require_by(KNOWN, act, at)
    }

    fn require_by(&self, known: &[u32], act: Act, at: &str) -> Result<()> {
        let forbidding = self.0.iter().filter(|feature| !known.contains(&feature.number) && feature.forbids(act));
        match forbidding.max_by_key(|feature| feature.required()) {
            None => Ok(()),
            Some(feature) => Err(Error::new(ErrorKind::Unsupported, refusal(feature, act, at))),
        }
    }
}

/// Says which feature forbids something, what helps, and what is possible all the same.
fn refusal(feature: &Feature, act: Act, at: &str) -> String {
    let Feature { number, name, since, text, .. } = feature;
    let what = match act {
        Act::Read => "neither read it nor write to it",
        Act::Add => "not write to it",
        Act::Remove => "not remove anything from it",
    };
    let still = match feature.required() {
        Required::ToRead => "Nothing was done",
        Required::ToWrite => "Reading, checking, restoring and mounting go on as before",
        _ => "Backups, and all that reads, go on as before",
    };
    format!(
        "The repository at {at} has the feature `{}` (number {number}: {}), which this bakfs ({}) does not know, so it may \
         {what}: install bakfs {} or newer. {still}",
        shown(name),
        shown(text).trim_end_matches('.'),
        env!("CARGO_PKG_VERSION"),
        shown(since)
    )
}

/// Reads the features of the repository in a store, whatever else of it can be read.
pub fn read(store: &dyn Store, vault: &Vault) -> Result<Vec<Recorded>> {
    let listed = store.list(ObjectKind::Mark)?;
    let read = parallel::for_each(store, parallel::SMALL, &listed, |listed| {
        match stored::read(store, vault, listed.id) {
            Ok(AnyMark::Known(Mark::Feature(feature))) => Ok(Some(feature)),
            Ok(_) => Ok(None),
            // It says something of this one mark, and nothing of the store.
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Foreign | ErrorKind::NotFound) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    })?;
    let mut all: Vec<Recorded> = Vec::new();
    for feature in read.into_iter().flatten() {
        match all.iter_mut().find(|known| known.feature.is_same(&feature)) {
            Some(known) => known.records += 1,
            None => all.push(Recorded { feature, records: 1 }),
        }
    }
    Ok(all)
}

/// Raises a feature: from now on whoever opens the repository and does not know it keeps to its class.
///
/// May be repeated, by any number of machines at once. One that was raised cannot be lowered: a stricter class is another
/// record, and the strictest counts.
pub fn raise(repository: &Repository, feature: &Feature) -> Result<Raised> {
    if let Some(why) = feature.refused() {
        return Err(Error::usage(format!("The feature {} cannot be raised: {why}", feature.number)));
    }
    let known = repository.listed_features()?.1;
    // Whoever raises it knows it.
    known.require_by(&[KNOWN, &[feature.number]].concat(), Act::Add, &repository.store.location())?;
    let records = complete(repository, &[feature])?;
    // After the records are durable: whoever is not listed has read them, or will.
    let (marks, features) = repository.listed_features()?;
    if !features.list().iter().any(|known| known.is_same(feature)) {
        let message = format!(
            "A listing of marks lacks the feature {} that was raised a moment ago: raise it again",
            shown(&feature.name)
        );
        return Err(Error::new(ErrorKind::Busy, message));
    }
    let kinds = [SessionKind::Backup, SessionKind::Prune];
    let sessions = kinds.into_iter().flat_map(|kind| marks.sessions(kind));
    let sessions = sessions.filter(|(_, session)| !marks.is_fenced(&session.id));
    Ok(Raised { records, sessions: sessions.map(|(_, session)| session.clone()).collect() })
}

/// Writes the records that are missing of each feature that is known of, here or by this machine. To be called by
/// whoever may remove, before it does; returns how many were written.
pub fn keep(repository: &Repository) -> Result<usize> {
    let features = repository.listed_features()?.1;
    let written = complete(repository, &features.list().iter().collect::<Vec<_>>())?.len();
    if written > 0 {
        let records = counted(written, "record");
        repository.note(format!("Of features of the repository {records} that were damaged or lost are written again"));
    }
    Ok(written)
}

/// Writes records until there are [`COPIES`] of each feature.
fn complete(repository: &Repository, features: &[&Feature]) -> Result<Vec<ObjectId>> {
    let marks = repository.listed_features()?.0;
    let mut records = Vec::new();
    for feature in features {
        let there = marks.features().filter(|(_, known)| known.is_same(feature)).count();
        for _ in there..COPIES {
            records.push(repository.put_mark(Mark::Feature((*feature).clone()))?);
        }
    }
    Ok(records)
}

impl Repository {
    /// Lists the marks, and returns them with the features that they tell of or that this machine has seen, whatever
    /// these forbid.
    pub fn listed_features(&self) -> Result<(Marks, Features)> {
        let marks = self.all_marks()?;
        let features = self.learn_features(&marks);
        Ok((marks, features))
    }

    /// Fails if a feature forbids something; marks that were listed tell.
    pub fn require(&self, act: Act, marks: &Marks) -> Result<()> {
        self.learn_features(marks).require(act, &self.store.location())
    }

    /// Takes in what marks tell of features, and keeps it on this machine; returns all that are known of.
    pub(in crate::repo) fn learn_features(&self, marks: &Marks) -> Features {
        let mut features = self.shared.features.lock();
        let mut is_new = false;
        for (_, feature) in marks.features() {
            is_new |= features.add(feature);
        }
        if let (true, Some(known)) = (is_new, &self.shared.known) {
            known.keep_features(features.list(), self.keys());
        }
        features.clone()
    }

    /// Reads the marks for the first time, before anything else is relied on. Fails where a feature forbids to read, and
    /// tells of those that this machine has seen and that no mark tells of any more.
    pub(in crate::repo) fn open_features(&self) -> Result<()> {
        let marks = self.marks()?;
        let features = self.learn_features(&marks);
        let is_lost = |seen: &&Feature| !marks.features().any(|(_, there)| there.is_same(seen));
        for lost in features.list().iter().filter(is_lost) {
            self.warn(format!(
                "No mark tells any more of the feature `{}` that the repository at {} has, as this machine knows: it \
                 still holds, and the next `bakfs prune` that may run writes the mark again",
                shown(&lost.name),
                self.store.location()
            ));
        }
        Ok(())
    }
}
