//! What is explored: how many processes, which listing, and which rule is broken on purpose.

use super::state::*;

/// How old a listing may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// It shows one moment.
    Exact,
    /// It may miss what each other process has put or deleted last.
    Stale,
    /// The same, and a process goes on only when all others see what it has done.
    StaleAndSettled,
}

/// What a prune may choose to condemn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plans {
    /// What is unused, everything after copying what is used, or everything but one pack that has all.
    All,
    /// Everything, after copying what is used.
    Repack,
}

/// A design that is known to lose data, or a rule left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A session that is silent counts as ended, without a fence.
    SessionsExpire,
    /// A prune waits for one backup session only.
    OneSessionAwaited,
    /// Prunes run side by side.
    ParallelPrunes,
    /// Snapshots are not announced.
    NoIntents,
    /// A writer looks for packs before it looks for condemned ones.
    PacksBeforeMarks,
    /// A pruner does not look for its fence after its verdict.
    NoCheckAfterVerdict,
    /// A writer ends its session though its snapshot may still appear.
    EndWhenUncertain,
    /// The draft: a prune carries out, continues or cancels what another has begun.
    DecideForOthers,
    /// The snapshots of a verdict stay removed when the condemn mark is gone.
    RemovedForEver,
    /// An undo does not look whether the snapshot is still there.
    UncheckedUndo,
    /// Fences are cleaned up, and who was fenced looks for nothing else.
    FencesForgotten,
    /// A chunk is there when an index segment says so.
    IndexTrusted,
    /// The index is rewritten without all condemned packs, released ones too.
    IndexByCondemned,
    /// What another prune has condemned is forgotten when it is dead.
    CondemnedDropped,
    /// A pack that another's verdict names is released when a snapshot needs it.
    DoomedReleased,
    /// A prune lists packs before it puts its session.
    PacksBeforeSession,
    /// A prune lists packs after its session, but before the marks that say what is condemned.
    PacksBeforeCondemned,
    /// A prune deletes all older verdicts there are at its end, not those it has taken over.
    UnseenVerdictsDeleted,
    /// The census of a condemn mark that is taken over is enough, wherever that mark is by then.
    OldCensusTrusted,
    /// Who brings a snapshot back deletes its forget mark and does not recall it.
    UndoNotRecalled,
    /// A prune believes a listing that lacks a snapshot which an earlier one has seen.
    ShortListingBelieved,
    /// A prune's word replaces verdicts of others about what is listed and not taken over.
    OpenVerdictsReplaced,
}

/// One model.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How many processes back up.
    pub writers: usize,
    /// How many prune.
    pub pruners: usize,
    /// Whether somebody forgets the old snapshot during the run, and may bring it back; else it is forgotten.
    pub user: bool,
    /// Whether index segments are objects of their own; else a pack is found when it is there.
    pub index: bool,
    /// Whether marks of fenced sessions are cleaned up.
    pub cleanup: bool,
    /// Whether a prune that gets no answer to a put ends its session; else it stops and is fenced.
    pub unanswered: bool,
    /// Whether a prune without a verdict leaves word of what it has seen, in one that decides nothing.
    pub remembers: bool,
    /// Whether listings of prunes may lack a snapshot that an earlier prune has seen.
    pub short: bool,
    /// Whether somebody puts deleted forget marks back.
    pub replays: bool,
    /// What a prune may choose.
    pub plans: Plans,
    /// What processes see of the store.
    pub listing: Listing,
    /// The rule that is broken, if one is.
    pub flaw: Option<Flaw>,
}

impl Rules {
    pub(crate) fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// Returns the packs of a listing in which an index finds chunks.
    pub(crate) fn found_packs(&self, state: &State, view: Set) -> Bits {
        let listed = (view & PACKS) as Bits;
        if self.index { listed & state.indexed(view & SEGMENTS) } else { listed }
    }

    /// Returns the pruners whose condemn marks are open.
    pub(crate) fn open(&self, view: Set) -> impl Iterator<Item = usize> {
        (0..PRUNERS).filter(move |pruner| view & condemn(*pruner) != 0 && view & cancel(*pruner) == 0)
    }

    /// Returns the verdicts that count.
    pub(crate) fn valid(&self, state: &State, view: Set) -> impl Iterator<Item = Pruner> {
        let pruners = state.pruners;
        (0..PRUNERS)
            .filter(move |pruner| view & verdict(*pruner) != 0)
            .map(move |pruner| pruners[pruner])
            .filter(move |pruner| view & cancel(usize::from(pruner.about)) == 0)
    }

    /// Returns the writers whose snapshots are revoked.
    pub(crate) fn revoked(&self, state: &State, view: Set) -> Bits {
        self.valid(state, view).fold(0, |revoked, pruner| revoked | pruner.revokes)
    }

    /// Returns whether a verdict has removed the old snapshot.
    pub(crate) fn has_removed_old(&self, state: &State, view: Set) -> bool {
        let outlives = self.has(Flaw::RemovedForEver) || self.has(Flaw::DecideForOthers);
        self.valid(state, view)
            .any(|pruner| pruner.removes_old && (outlives || view & condemn(usize::from(pruner.about)) != 0))
    }

    /// Returns the objects that are no snapshots, or no more.
    pub(crate) fn void(&self, state: &State, view: Set) -> Set {
        let revoked = members(self.revoked(state, view)).fold(0, |void, writer| void | snapshot(writer));
        if self.has_removed_old(state, view) { revoked | OLD } else { revoked }
    }

    /// Returns whether a session must stop, by what its process has listed.
    pub(crate) fn is_fenced(&self, view: Set, session: Set, fence: Set) -> bool {
        let is_gone = self.cleanup && !self.has(Flaw::FencesForgotten) && view & session == 0;
        view & fence != 0 || is_gone
    }

    /// Returns all a process may see when it lists.
    pub(crate) fn views(&self, state: &State, who: Actor) -> Vec<Set> {
        let mut views = vec![state.store];
        if self.listing == Listing::Exact {
            return views;
        }
        for (number, object) in state.unsettled.iter().enumerate() {
            if number != who.number() && *object != 0 {
                let other: Vec<_> = views.iter().map(|view| view ^ object).collect();
                views.extend(other);
            }
        }
        views
    }

    /// Returns what is wrong with a state.
    pub(crate) fn fault(&self, state: &State) -> Option<String> {
        let store = state.store;
        let void = self.void(state, store);
        let forgotten = if store & FORGETS == 0 { 0 } else { OLD };
        let readable = state.chunks_of(self.found_packs(state, store));
        let mut acknowledged = KEPT;
        for (number, writer) in state.writers.iter().enumerate() {
            acknowledged |= if writer.at == WriterAt::Succeeded { snapshot(number) } else { 0 };
        }
        let wanted = match state.user {
            UserAt::Content if self.user => OLD,
            UserAt::Restored => OLD,
            _ => 0,
        };
        let lost = (acknowledged | wanted) & !(store & !void & !forgotten);
        if lost != 0 {
            return Some(format!("{} was acknowledged and is not shown", name(lost)));
        }
        // Those a verdict removes as well: some reader may not have seen the verdict yet.
        let revoked = void & !OLD;
        let shown = store & SNAPSHOTS & !revoked & !forgotten;
        for one in (8..12).map(|bit| 1 << bit).filter(|one| shown & one != 0) {
            if State::chunks_of_snapshots(one) & !readable != 0 {
                let whose = if (acknowledged | wanted) & one == 0 { "is shown" } else { "was acknowledged" };
                return Some(format!("{} {whose} and cannot be read", name(one)));
            }
        }
        None
    }
}

fn name(snapshot: Set) -> &'static str {
    match snapshot {
        KEPT => "the snapshot that is kept",
        OLD => "the snapshot that was forgotten and brought back",
        _ => "a new snapshot",
    }
}
