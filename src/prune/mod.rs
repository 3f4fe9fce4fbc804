//! Removing what no snapshot needs, beside running backups and open mounts; docs/prune.md has the protocol.
//!
//! Memory: one bit for each record of the index and about 80 bytes for each pack; the index itself is mapped
//! from a scratch folder (68 bytes a chunk on disk, at most).

mod catalog;
mod guard;
pub mod policy;
mod select;
mod sweep;
mod turn;
mod usage;

use crate::error::{Error, Result};
use crate::format::feature::Act;
use crate::format::mark::{Condemn, Mark, MarkId, SessionKind, SessionMark, Verdict};
use crate::id::{ChunkId, ObjectId};
use crate::monitor::Monitor;
use crate::quantity::{are, counted};
use crate::repo::Repository;
use crate::repo::features;
use crate::repo::read::chunk_kind::ChunkKind;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::marks::Marks;
use crate::repo::shared::session::{self, Session, random_id};
use crate::repo::write::{WriteOptions, Writer};
use crate::store::{Object, Wait};
use catalog::Catalog;
use guard::{Seen, sorted};
use serde::Serialize;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use usage::{Avoided, Bits, Lookups, Usage};

pub use select::Sizes;
pub use sweep::Swept;

/// How to prune.
pub struct Options<'a> {
    /// The share of the packs' length that may stay unused, from 0 to 1.
    pub max_waste: f64,
    /// Whether only to tell what would be done.
    pub dry_run: bool,
    /// Snapshots a dry run takes for forgotten.
    pub forgotten: &'a [ObjectId],
    /// Whether to go on although snapshots or content are missing that should be there.
    pub accept_missing: bool,
    /// A folder for mapped copies of the index.
    pub scratch: Option<&'a Path>,
    /// How to write what is copied.
    pub write: WriteOptions,
    /// Judges whether a session that has not ended is dead. A wrong answer costs that run its work and never data.
    pub is_dead: &'a dyn Fn(&SessionMark) -> bool,
}

/// What came of a prune.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// What was found and planned.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// What was deleted.
    #[serde(flatten)]
    pub swept: Swept,
    /// The stored length of what was copied.
    pub copied_packed_bytes: u64,
    /// Snapshots that go, or would go.
    #[serde(rename = "forgotten_snapshots")]
    pub forgotten: u64,
    /// Why what was condemned stays until a later prune: backups that run, above all.
    pub waiting_for: Vec<String>,
    /// Content that snapshots need and no pack has.
    pub missing_chunks: u64,
}

/// Prunes a repository.
pub fn run(repository: &Arc<Repository>, options: &Options<'_>, monitor: &dyn Monitor) -> Result<Report> {
    let session = (!options.dry_run).then(|| Session::begin_alone(repository, options.is_dead)).transpose()?;
    let marks = repository.marks()?;
    repository.require(Act::Remove, &marks)?;
    marks.require_whole()?;
    if session.is_some() {
        features::keep(repository)?;
    }
    let catalog = Catalog::load(repository, options.scratch)?;
    let mut prune = Prune {
        repository,
        options,
        monitor,
        catalog,
        seen: Seen::default(),
        has_judged: false,
        report: Report::default(),
    };
    let Some(session) = session else {
        prune.look()?;
        return Ok(prune.report);
    };
    if prune.finish_earlier(&session)? {
        prune.start_new(&session)?;
    }
    if !prune.has_judged {
        prune.remember(&session)?;
    }
    repository.store().sweep()?;
    session.end()?;
    Ok(prune.report)
}

/// Returns the sessions of backups that have not ended, fenced ones included.
fn backups(marks: &Marks) -> Vec<MarkId> {
    marks.sessions(SessionKind::Backup).map(|(_, session)| session.id).collect()
}

struct Prune<'a> {
    repository: &'a Arc<Repository>,
    options: &'a Options<'a>,
    monitor: &'a dyn Monitor,
    catalog: Catalog,
    seen: Seen,
    /// Whether it has left a verdict.
    has_judged: bool,
    report: Report,
}

/// What is condemned, and what is known of it.
struct Case {
    /// The mark by which this prune has condemned it, and those of earlier prunes that it takes over.
    condemned: Vec<MarkId>,
    /// The first of these.
    own: MarkId,
    /// Its packs.
    avoided: Avoided,
    /// Its snapshots.
    snapshots: HashSet<ObjectId>,
    /// Backups that may rely on what is condemned.
    sessions: Vec<MarkId>,
    /// What the snapshots in `walked` need.
    usage: Usage,
    walked: HashSet<ObjectId>,
}

impl Prune<'_> {
    /// Takes over what earlier prunes have condemned and not deleted; returns false if a backup has to end first.
    ///
    /// Nobody else's verdict is ever carried out, because it may be one of a prune that was fenced; but what it
    /// names may be being deleted by one that was not.
    fn finish_earlier(&mut self, session: &Session) -> Result<bool> {
        let marks = self.marks()?;
        let mut condemned: Vec<MarkId> = Vec::new();
        let mut avoided = Avoided::default();
        let (mut snapshots, mut sessions) = (HashSet::new(), HashSet::new());
        for (_, earlier) in marks.condemned() {
            condemned.push(earlier.id);
            avoided.condemned.extend(earlier.packs.iter().copied());
            snapshots.extend(earlier.snapshots.iter().copied());
            match marks.census(&earlier.id) {
                // Those that began later have seen what was condemned.
                Some(census) => sessions.extend(census.iter().copied()),
                None => sessions.extend(backups(&marks)),
            }
        }
        if condemned.is_empty() {
            return Ok(true);
        }
        let mut sessions: Vec<_> = sessions.into_iter().collect();
        if self.must_wait(&sessions)? {
            return Ok(false);
        }
        let verdicts = marks.verdicts().filter(|(_, verdict)| condemned.contains(&verdict.condemn));
        avoided.doomed = verdicts.flat_map(|(_, verdict)| verdict.packs.iter().copied()).collect();
        let (roots, _) = self.roots(&marks, &snapshots)?;
        // After the marks and the snapshots: no pack that was listed before them decides anything.
        self.catalog.update(self.repository)?;
        let mut usage = Usage::default();
        usage.add(self.repository, &self.catalog, &roots, &avoided, self.monitor)?;
        self.require_content(&usage)?;
        let endangered = std::mem::take(&mut usage.endangered);
        if !endangered.is_empty() {
            self.rescue(&endangered)?;
        }
        let packs = avoided.condemned.union(&avoided.doomed).copied().collect();
        let own = self.condemn(session, packs, snapshots.iter().copied().collect())?;
        // If one of the earlier has ended meanwhile, a backup may have begun that has seen neither.
        let marks = self.marks()?;
        let listed: HashSet<_> = marks.condemned().map(|(_, condemn)| condemn.id).collect();
        if !condemned.iter().all(|id| listed.contains(id)) {
            sessions = backups(&marks);
        }
        self.put_census(own, &sessions)?;
        condemned.push(own);
        let walked = roots.iter().map(|listed| listed.id).collect();
        self.judge(session, Case { condemned, own, avoided, snapshots, sessions, usage, walked })
    }

    /// Copies chunks that are stored only where somebody may be deleting them.
    fn rescue(&mut self, endangered: &[(ChunkKind, ChunkId, u32)]) -> Result<()> {
        let mut writer = Writer::new(self.repository.clone(), self.options.write);
        for (kind, id, len_bytes) in endangered {
            let mut bytes = Vec::new();
            self.repository.read_chunk(*kind, id, 0..*len_bytes as usize, Wait::Allowed, &mut bytes)?;
            writer.add_copy(*kind, *id, &bytes)?;
        }
        self.report.copied_packed_bytes += writer.finish()?.packed_bytes;
        self.catalog.update(self.repository)
    }

    /// Returns whether some of these sessions live, which have to end first, and names them in the report.
    fn must_wait(&mut self, sessions: &[MarkId]) -> Result<bool> {
        let marks = self.marks()?;
        let living = turn::settle(self.repository, self.options, &marks, sessions)?;
        self.report.waiting_for =
            living.iter().map(|session| format!("a backup runs: {}", session::told(session))).collect();
        Ok(!living.is_empty())
    }

    /// Finds what nothing needs, condemns it, and deletes it; returns false if a backup has to end first.
    fn start_new(&mut self, session: &Session) -> Result<bool> {
        let (usage, walked, plan) = self.look()?;
        if !plan.repack.is_empty() {
            self.copy(&walked, &usage, &plan.repack)?;
            self.catalog.update(self.repository)?;
        }
        let packs: HashSet<_> = plan.unused.into_iter().chain(plan.repack).collect();
        let forgotten = self.repository.forgotten_snapshots()?;
        let snapshots: HashSet<_> = forgotten.iter().map(|listed| listed.id).collect();
        if packs.is_empty() && snapshots.is_empty() && !sweep::has_litter(&self.marks()?) {
            self.report.swept.index_objects = sweep::rewrite_index(self.repository, &self.catalog, &HashSet::new())?;
            return Ok(true);
        }
        let own = self.condemn(session, packs.iter().copied().collect(), snapshots.iter().copied().collect())?;
        // ListedSnapshot after the mark is durable: whoever is not in it has seen the mark.
        let marks = self.marks()?;
        let sessions = backups(&marks);
        self.put_census(own, &sessions)?;
        let avoided = Avoided { condemned: packs, doomed: HashSet::new() };
        let walked = walked.iter().map(|listed| listed.id).collect();
        self.judge(session, Case { condemned: vec![own], own, avoided, snapshots, sessions, usage, walked })
    }

    /// Says what is to be deleted: from then on nothing new relies on it.
    fn condemn(&self, session: &Session, mut packs: Vec<ObjectId>, mut snapshots: Vec<ObjectId>) -> Result<MarkId> {
        session.check()?;
        let id = random_id();
        packs.sort();
        snapshots.sort();
        self.repository.put_mark(Mark::Condemn(Condemn { id, session: session.id(), packs, snapshots }))?;
        Ok(id)
    }

    /// Says which backups may rely on what is condemned.
    fn put_census(&self, condemn: MarkId, sessions: &[MarkId]) -> Result<()> {
        self.repository.put_mark(Mark::Census { condemn, sessions: sessions.to_vec() })?;
        Ok(())
    }

    /// Finds out what snapshots need and what could go.
    fn look(&mut self) -> Result<(Usage, Vec<ListedSnapshot>, select::Plan)> {
        let marks = self.marks()?;
        let (_, mut snapshots) = self.snapshots(&marks)?;
        let forgotten = marks.forgotten();
        snapshots.retain(|listed| !forgotten.contains(&listed.id));
        let backups = backups(&marks);
        let nobody_writes = match self.options.dry_run {
            true => marks
                .sessions(SessionKind::Backup)
                .all(|(_, session)| marks.is_fenced(&session.id) || (self.options.is_dead)(session)),
            false => turn::settle(self.repository, self.options, &marks, &backups)?.is_empty(),
        };
        let seen = snapshots.len();
        snapshots.retain(|listed| !self.options.forgotten.contains(&listed.id));
        let newly_forgotten = (seen - snapshots.len()) as u64;
        // After the marks and the snapshots, as above.
        self.catalog.update(self.repository)?;
        self.monitor.expect(snapshots.len() as u64, 0);
        let mut usage = Usage::default();
        let avoided = Avoided { condemned: marks.condemned_packs(), doomed: HashSet::new() };
        usage.add(self.repository, &self.catalog, &snapshots, &avoided, self.monitor)?;
        self.require_content(&usage)?;
        let take_unnamed = nobody_writes && usage.missing.is_empty();
        let plan = select::plan(&self.catalog, &usage, self.options.max_waste, take_unnamed);
        self.report.sizes = plan.sizes;
        self.report.forgotten = self.repository.forgotten_snapshots()?.len() as u64 + newly_forgotten;
        Ok((usage, snapshots, plan))
    }

    /// Copies what is needed of packs into new ones, in the order of the newest snapshots' trees, so that what is
    /// read together stays together.
    ///
    /// The snapshots are those `usage` is of: one more or less would count as copied what is not.
    fn copy(&mut self, snapshots: &[ListedSnapshot], usage: &Usage, packs: &HashSet<ObjectId>) -> Result<()> {
        let repository = self.repository;
        let mut writer = Writer::new(repository.clone(), self.options.write);
        let mut met = Bits::default();
        let mut bytes = Vec::new();
        let mut lookups = Lookups::default();
        for listed in snapshots.iter().rev() {
            usage::walk(repository, listed, &mut |kind, id| {
                lookups.note(repository, &self.catalog);
                let Some(copy) = self.catalog.copies(id).find(|copy| usage.keeps(copy)) else {
                    // It came after the look, or is missing: nothing of it is in these packs.
                    return Ok(kind == ChunkKind::Page);
                };
                if !met.set(&copy) {
                    return Ok(false);
                }
                if packs.contains(&copy.pack.id) {
                    bytes.clear();
                    repository.read_chunk(kind, id, 0..copy.len_bytes as usize, Wait::Allowed, &mut bytes)?;
                    writer.add_copy(kind, *id, &bytes)?;
                    self.monitor.advance(0, u64::from(copy.len_bytes));
                }
                Ok(true)
            })?;
        }
        self.report.copied_packed_bytes += writer.finish()?.packed_bytes;
        Ok(())
    }

    /// Decides what of a case goes, says so in a verdict, and deletes it; returns false if it is left to a later
    /// prune, because a backup runs that may rely on it.
    fn judge(&mut self, session: &Session, mut case: Case) -> Result<bool> {
        if self.must_wait(&case.sessions)? {
            return Ok(false);
        }
        // A snapshot that is listed before its announcement is looked for, and not announced, is there for good.
        let before = self.stored_snapshots()?;
        let marks = self.marks()?;
        let (roots, listed) = self.roots(&marks, &case.snapshots)?;
        // After the snapshots: whatever they need is named by now.
        self.catalog.update(self.repository)?;
        let new: Vec<_> = roots.iter().filter(|listed| !case.walked.contains(&listed.id)).cloned().collect();
        case.usage.add(self.repository, &self.catalog, &new, &case.avoided, self.monitor)?;
        self.require_content(&case.usage)?;
        if !case.usage.endangered.is_empty() {
            self.report.waiting_for = vec!["what an earlier prune was deleting came to be needed".into()];
            return Ok(false);
        }
        // Not all that are no roots: one that cannot be read may have been brought back. What an earlier verdict
        // removes cannot be any more: it stays removed when that verdict goes, though a power cut has taken its
        // forget mark.
        let gone: HashSet<_> = marks.forgotten().union(&marks.void()).copied().collect();
        let removed: HashSet<_> = case.snapshots.intersection(&gone).copied().collect();
        let verdict = Verdict {
            condemn: case.own,
            packs: sorted(case.avoided.condemned.difference(&case.usage.held).copied()),
            removed: self.told_removed(&marks, &removed, &listed),
            revoked: self.revoked(&marks, &case, &listed)?,
            kept: sorted(self.kept(&marks, &roots, &before)?),
        };
        session.check()?;
        self.repository.put_mark(Mark::Verdict(verdict.clone()))?;
        // Whoever fences this prune from now on sees the verdict.
        session.check()?;
        self.has_judged = true;
        let swept = sweep::carry_out(self.repository, &mut self.catalog, &verdict, &removed, self.monitor)?;
        let now = self.marks()?;
        sweep::clear_marks(self.repository, &marks, &now, &listed, &case.condemned, &verdict, &removed)?;
        let total = &mut self.report.swept;
        total.packs += swept.packs;
        total.pack_bytes += swept.pack_bytes;
        total.snapshots += swept.snapshots;
        total.index_objects += swept.index_objects;
        Ok(true)
    }

    /// Returns what never counts from now on: what was given up, what fenced sessions have announced and not stored, and
    /// the marks that have done their duty and would do harm if they came back: fenced sessions, whose owners take
    /// themselves for alive; a census, without the backups that began since; and verdicts, which this one contradicts.
    fn revoked(&self, marks: &Marks, case: &Case, listed: &HashSet<ObjectId>) -> Result<Vec<ObjectId>> {
        let mut revoked: HashSet<_> = marks.given_up().collect();
        let open: HashSet<_> =
            marks.condemned().map(|(_, condemn)| condemn.id).filter(|id| !case.condemned.contains(id)).collect();
        let fenced = marks.intents().filter(|(_, (session, _))| marks.is_fenced(session));
        let absent: Vec<_> =
            fenced.map(|(_, (_, snapshot))| snapshot).filter(|snapshot| !listed.contains(snapshot)).collect();
        let objects: Vec<_> =
            absent.iter().filter(|id| !revoked.contains(*id)).copied().map(Object::Snapshot).collect();
        if let Some(object) = self.repository.find_stored(&objects)?.first() {
            return Err(guard::short_listing("snapshots", object));
        }
        revoked.extend(absent);
        revoked.extend(marks.objects_of(|mark| match mark {
            Mark::Session(session) => marks.is_fenced(&session.id),
            Mark::Census { condemn, .. } => !open.contains(condemn),
            // Not that of another prune which is carrying it out: what fences both must see it.
            Mark::Verdict(verdict) => !open.contains(&verdict.condemn),
            _ => false,
        }));
        Ok(sorted(revoked))
    }

    /// Lists the snapshots that stay, and all objects there are. Forgotten ones stay unless they are condemned.
    fn roots(
        &mut self,
        marks: &Marks,
        condemned: &HashSet<ObjectId>,
    ) -> Result<(Vec<ListedSnapshot>, HashSet<ObjectId>)> {
        let (listed, mut roots) = self.snapshots(marks)?;
        let forgotten = marks.forgotten();
        roots.retain(|root| !(condemned.contains(&root.id) && forgotten.contains(&root.id)));
        Ok((roots, listed))
    }

    /// Fails if content is missing that snapshots need: nothing is deleted while it may yet be found.
    fn require_content(&mut self, usage: &Usage) -> Result<()> {
        self.report.missing_chunks = usage.missing.len() as u64;
        if usage.missing.is_empty() || self.options.accept_missing {
            return Ok(());
        }
        Err(Error::damaged(format!(
            "{} that snapshots need {} in no pack there is, and nothing is deleted: `bakfs check` names the \
             files, `bakfs repair` finds what can be found; --accept-missing prunes all the same",
            counted(usage.missing.len(), "chunk"),
            are(usage.missing.len())
        )))
    }
}
