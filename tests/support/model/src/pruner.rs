//! The steps of a prune.

use super::rules::{Flaw, Listing, Plans, Rules};
use super::state::*;
use super::steps::Next;

impl Next<'_> {
    pub fn pruner(&mut self, me: usize) {
        use PrunerAt::*;
        let rules = *self.rules;
        let pruner = self.state.pruners[me];
        match pruner.at {
            PutSession if rules.has(Flaw::PacksBeforeSession) && pruner.relied == 0 => {
                self.list("lists packs too early", |state, view| {
                    state.pruners[me].relied = rules.found_packs(state, view);
                });
            }
            PutSession => self.put("puts its session", prune_session(me), |state| {
                state.pruners[me].at = LookForOthers;
            }),
            LookForOthers => self.look_for_others(me),
            FenceOther => self.put("fences another prune", prune_fence(usize::from(pruner.target)), |state| {
                state.pruners[me] = Pruner { at: LookForOthers, relied: pruner.relied, ..Pruner::default() };
            }),
            PutCancel => self.put("cancels what another has condemned", cancel(usize::from(pruner.target)), |state| {
                state.pruners[me].at = LookForOthers;
            }),
            Plan => self.plan(me),
            PutCopies => self.put("puts a pack of copies", copied_pack(me), |state| {
                state.pruners[me].at = if rules.index { PutCopiesSegment } else { PutCondemn };
            }),
            PutCopiesSegment => self.put("puts an index segment", copied_segment(me), |state| {
                state.pruners[me].at = PutCondemn;
            }),
            PutCondemn => {
                self.put("puts its condemn mark", condemn(me), |state| state.pruners[me].at = TakeCensus);
                self.give_up(me, condemn(me));
            }
            TakeCensus => self.list("lists marks: the backups there are", |state, view| {
                state.take_census(&rules, me, view);
            }),
            PutCensus => {
                self.put("puts its census", census(me), |state| state.pruners[me].at = Await);
                self.give_up(me, census(me));
            }
            Await => self.wait(me),
            FenceWriter => self.put("fences a backup", fence(usize::from(pruner.target)), |state| {
                state.pruners[me].at = Await;
                state.pruners[me].target = 0;
            }),
            ListSnapshots => {
                self.list("lists snapshots", |state, view| state.find_roots(me, view));
                if rules.has(Flaw::ShortListingBelieved) {
                    self.list("lists snapshots, short", |state, view| state.find_roots(me, view & !KEPT));
                } else if rules.short {
                    self.end(me, "lists snapshots: lacks one that was seen");
                }
            }
            ListPacks => self.list("lists index segments and packs", |state, view| {
                let found = rules.found_packs(state, view);
                state.judge(me, found);
            }),
            PutVerdict => {
                self.put("puts its verdict", verdict(me), |state| {
                    // It revokes the verdicts it replaces, and each census it has waited for.
                    if rules.listing == Listing::Exact {
                        let taken = members(pruner.taken | 1 << me).fold(0, |all, other| all | census(other));
                        state.store &= !(pruner.replaced | taken);
                    }
                    let checks = !rules.has(Flaw::NoCheckAfterVerdict);
                    state.pruners[me].at = if checks { CheckFence } else { ListSegments };
                });
                self.give_up(me, verdict(me));
            }
            Uncertain => {
                self.delete(pruner.todo, |state, todo| state.pruners[me].todo = todo);
                self.put("what it has put appears late", pruner.pending, |state| {
                    (state.pruners[me].at, state.pruners[me].pending) = (Delete, 0);
                });
            }
            CheckFence => self.list("lists marks: fenced?", |state, view| {
                let is_fenced = rules.is_fenced(view, prune_session(me), prune_fence(me));
                state.pruners[me].at = if is_fenced { Stopped } else { ListSegments };
            }),
            ListSegments => self.list("lists index segments", |state, view| state.plan_deletion(&rules, me, view)),
            PutMerged => self.put("puts a merged index segment", merged_segment(me), |state| {
                state.pruners[me].at = Delete;
            }),
            Delete => {
                let delete = |state: &mut State, mut todo: Set| {
                    let is_last_pack = pruner.todo & PACKS != 0 && todo & PACKS == 0;
                    if is_last_pack && rules.has(Flaw::UnseenVerdictsDeleted) {
                        todo |= state.store & VERDICTS & !verdict(me);
                    }
                    let pruner = &mut state.pruners[me];
                    pruner.todo = todo;
                    pruner.at = if todo == 0 { Stopped } else { Delete };
                };
                self.delete(pruner.todo, delete);
            }
            ListForMemory => self.list("lists marks: what verdicts say", |state, view| {
                let seen = state.replaced(&rules, me, view, 0);
                let revokes = rules.revoked(state, view);
                let pruner = &mut state.pruners[me];
                (pruner.at, pruner.seen, pruner.revokes) = (PutMemory, seen, revokes);
            }),
            PutMemory => self.put("leaves word of what it has seen", verdict(me), |state| {
                state.store &= !pruner.seen;
                state.pruners[me].at = CheckMemory;
            }),
            CheckMemory => self.list("lists marks: fenced?", |state, view| {
                let is_fenced = rules.is_fenced(view, prune_session(me), prune_fence(me));
                let pruner = &mut state.pruners[me];
                pruner.at = if is_fenced { Stopped } else { Delete };
                pruner.todo = pruner.seen | prune_session(me);
            }),
            Stopped => {}
        }
    }

    /// No answer comes to a put: the prune gives up, and what it has put appears later or never.
    fn give_up(&mut self, me: usize, pending: Set) {
        if self.rules.unanswered {
            self.list("gets no answer, and gives up", |state, _| {
                let pruner = &mut state.pruners[me];
                (pruner.at, pruner.pending, pruner.todo) = (PrunerAt::Uncertain, pending, prune_session(me));
            });
        }
    }

    fn end(&mut self, me: usize, what: &'static str) {
        let rules = *self.rules;
        self.list(what, |state, _| state.pruners[me].end(&rules, me));
    }

    fn look_for_others(&mut self, me: usize) {
        let rules = *self.rules;
        for view in rules.views(self.state, Actor::Pruner(me)) {
            let is_open = |other: &usize| view & prune_session(*other) != 0 && view & prune_fence(*other) == 0;
            let others: Vec<_> = (0..PRUNERS).filter(|other| *other != me).filter(is_open).collect();
            if others.is_empty() && rules.has(Flaw::PacksBeforeCondemned) && self.state.pruners[me].relied == 0 {
                let mut state = *self.state;
                state.pruners[me].relied = rules.found_packs(self.state, view);
                self.add("lists marks: no other prune; lists packs, and then marks again", state);
                continue;
            }
            if others.is_empty() || rules.has(Flaw::ParallelPrunes) {
                let mut state = *self.state;
                state.begin_prune(&rules, me, view);
                self.add("lists marks: no other prune", state);
                continue;
            }
            for other in others {
                let mut state = *self.state;
                state.pruners[me].at = PrunerAt::FenceOther;
                state.pruners[me].target = other as u8;
                self.add("lists marks: takes another prune for dead", state);
            }
            let mut state = *self.state;
            state.pruners[me].at = PrunerAt::Delete;
            state.pruners[me].todo = prune_session(me);
            self.add("lists marks: another prune runs", state);
        }
    }

    /// Chooses what to condemn. Any choice must be safe; these are the ones that differ.
    fn plan(&mut self, me: usize) {
        let rules = *self.rules;
        let mut views = rules.views(self.state, Actor::Pruner(me));
        if rules.has(Flaw::ShortListingBelieved) {
            views.push(self.state.store & !KEPT);
        }
        for view in views {
            let pruner = self.state.pruners[me];
            let is_forgotten = pruner.roots & OLD == 0;
            let used = State::chunks_of_snapshots(view & pruner.roots);
            let is_early = rules.has(Flaw::PacksBeforeSession) || rules.has(Flaw::PacksBeforeCondemned);
            let listed = if is_early { pruner.relied } else { (view & PACKS) as Bits };
            let inherited = pruner.inherited & listed;
            let live = listed & !pruner.inherited;
            let found_all = if is_early { listed } else { rules.found_packs(self.state, view) };
            let found = live & found_all;
            let used_here = used & self.state.chunks_of(found);
            let unused = members(live).filter(|pack| self.state.chunks(*pack) & used == 0 || found & 1 << pack == 0);
            // Nobody can say that these stay where they are.
            let safe = found_all & !pruner.doomed;
            let rescued = used & !self.state.chunks_of(safe) & self.state.chunks_of(found_all);
            let mut choices = vec![(unused.fold(0, |all, pack| all | 1 << pack), 0), (live, used_here)];
            let covers = |pack: &usize| used_here != 0 && self.state.chunks(*pack) & used_here == used_here;
            if rules.plans == Plans::Repack {
                choices.retain(|choice| *choice == (live, used_here));
            } else {
                choices.extend(members(found).filter(covers).map(|pack| (live & !(1 << pack), 0)));
            }
            if inherited != 0 || pruner.taken != 0 {
                choices.push((0, 0));
            }
            choices.sort_unstable();
            choices.dedup();
            for (chosen, copies) in choices {
                let copies = copies | rescued;
                let mut state = *self.state;
                let names_old = pruner.names_old || is_forgotten && view & OLD != 0;
                let pruner = &mut state.pruners[me];
                (pruner.packs, pruner.inherited, pruner.copies) = (inherited | chosen, inherited, copies);
                (pruner.names_old, pruner.roots, pruner.relied) = (names_old, 0, found & !chosen);
                pruner.at = if copies == 0 { PrunerAt::PutCondemn } else { PrunerAt::PutCopies };
                if pruner.packs == 0 && pruner.taken == 0 && !names_old {
                    pruner.end(&rules, me);
                }
                self.add("lists snapshots, index segments and packs, and plans", state);
            }
        }
        if rules.short && !rules.has(Flaw::ShortListingBelieved) {
            self.end(me, "lists snapshots: lacks one that was seen");
        }
    }

    fn wait(&mut self, me: usize) {
        let rules = *self.rules;
        for view in rules.views(self.state, Actor::Pruner(me)) {
            let awaited = self.state.pruners[me].awaited;
            let is_open = |writer: &usize| view & session(*writer) != 0 && view & fence(*writer) == 0;
            let open: Vec<_> = members(awaited).filter(is_open).collect();
            if open.is_empty() || rules.has(Flaw::SessionsExpire) {
                let mut state = *self.state;
                state.learn(&rules, me, view);
                self.add("lists marks: all backups have ended or are fenced", state);
            }
            for writer in &open {
                let mut state = *self.state;
                state.pruners[me].at = PrunerAt::FenceWriter;
                state.pruners[me].target = *writer as u8;
                self.add("lists marks: takes a backup for dead", state);
            }
            if !open.is_empty() {
                self.end(me, "lists marks: leaves the rest to the next prune");
            }
        }
    }
}

impl Pruner {
    /// Deletes nothing, and leaves the rest to the next prune.
    fn end(&mut self, rules: &Rules, me: usize) {
        self.at = if rules.remembers { PrunerAt::ListForMemory } else { PrunerAt::Delete };
        self.todo = prune_session(me);
    }
}

impl State {
    /// No other prune runs: sees what earlier ones have left.
    fn begin_prune(&mut self, rules: &Rules, me: usize, view: Set) {
        let others: Vec<_> = rules.open(view).filter(|other| *other != me).collect();
        let relied = self.pruners[me].relied;
        self.pruners[me] = Pruner { at: PrunerAt::Plan, about: me as u8, relied, ..Pruner::default() };
        let forgotten = if view & FORGETS == 0 { 0 } else { OLD };
        self.pruners[me].roots = SNAPSHOTS & !(rules.void(self, view) | forgotten);
        if rules.has(Flaw::DecideForOthers) {
            if let Some(other) = others.first() {
                self.decide_for_other(rules, me, *other, view);
            }
            return;
        }
        if rules.has(Flaw::CondemnedDropped) {
            return;
        }
        for other in others {
            let there = (0..WRITERS).filter(|writer| view & session(*writer) != 0);
            let there = there.fold(0, |all, writer| all | 1 << writer);
            let awaited = if view & census(other) == 0 { there } else { self.pruners[other].awaited };
            let condemned = self.pruners[other];
            let pruner = &mut self.pruners[me];
            pruner.taken |= 1 << other;
            pruner.inherited |= condemned.packs;
            pruner.names_old |= condemned.names_old;
            pruner.awaited |= awaited;
        }
        let is_open = |verdict: &Pruner| view & condemn(usize::from(verdict.about)) != 0;
        let doomed = rules.valid(self, view).filter(is_open).fold(0, |all, verdict| all | verdict.deletes);
        self.pruners[me].doomed = if rules.has(Flaw::DoomedReleased) { 0 } else { doomed };
    }

    /// Decides which backups to wait for. Who began after a condemn mark has seen it: while that is still
    /// there beside the new one, its own census will do.
    fn take_census(&mut self, rules: &Rules, me: usize, view: Set) {
        let pruner = &mut self.pruners[me];
        let are_there = members(pruner.taken).all(|other| view & condemn(other) != 0);
        let is_covered = are_there || rules.has(Flaw::OldCensusTrusted);
        if !is_covered || pruner.packs != pruner.inherited {
            let there = (0..WRITERS).filter(|writer| view & session(*writer) != 0);
            pruner.awaited |= there.fold(0, |all, writer| all | 1 << writer);
        }
        if rules.has(Flaw::OneSessionAwaited) {
            pruner.awaited &= pruner.awaited.wrapping_neg();
        }
        pruner.at = PrunerAt::PutCensus;
    }

    /// The draft of the protocol: carries out another's verdict, continues its prune, or cancels it.
    fn decide_for_other(&mut self, rules: &Rules, me: usize, other: usize, view: Set) {
        let verdict = rules.valid(self, view).find(|pruner| usize::from(pruner.about) == other);
        let condemned = self.pruners[other];
        let has_ended = view & (prune_session(other) | prune_fence(other)) == 0;
        let pruner = &mut self.pruners[me];
        (pruner.about, pruner.taken) = (other as u8, 1 << other);
        if let Some(verdict) = verdict {
            pruner.at = PrunerAt::ListSegments;
            (pruner.deletes, pruner.removes_old) = (verdict.deletes, verdict.removes_old);
        } else if has_ended && view & census(other) != 0 {
            pruner.at = PrunerAt::Await;
            (pruner.packs, pruner.names_old) = (condemned.packs, condemned.names_old);
            pruner.awaited = condemned.awaited;
        } else {
            *pruner = Pruner { at: PrunerAt::PutCancel, target: other as u8, ..Pruner::default() };
        }
    }

    /// All backups that matter have ended or are fenced: takes from the marks what the verdict needs.
    fn learn(&mut self, rules: &Rules, me: usize, view: Set) {
        let announced = |writer: &usize| view & intent(*writer) != 0 && view & fence(*writer) != 0;
        let pruner = self.pruners[me];
        let is_forgotten = pruner.names_old && view & FORGETS != 0;
        let void = rules.void(self, view) | if is_forgotten { OLD } else { 0 };
        let mut seen = view & (VERDICTS | FORGETS) & !verdict(me);
        if rules.cleanup {
            for writer in (0..WRITERS).filter(|writer| view & fence(*writer) != 0) {
                seen |= view & (session(writer) | intent(writer) | fence(writer));
            }
            for other in (0..PRUNERS).filter(|other| view & prune_fence(*other) != 0) {
                seen |= view & (prune_session(other) | prune_fence(other));
            }
        }
        let replaced = self.replaced(rules, me, view, pruner.taken | 1 << me);
        let announced = (0..WRITERS).filter(announced).fold(0, |all, writer| all | 1 << writer);
        let revokes = rules.revoked(self, view) | announced;
        let at = PrunerAt::ListSnapshots;
        self.pruners[me] = Pruner { at, seen, replaced, roots: SNAPSHOTS & !void, revokes, ..pruner };
    }

    /// Returns the verdicts of others about what is taken over, or of which the condemn mark is gone.
    fn replaced(&self, rules: &Rules, me: usize, view: Set, taken: Bits) -> Set {
        let others = (0..PRUNERS).filter(|other| *other != me && view & verdict(*other) != 0);
        let is_over = |other: &usize| {
            let about = usize::from(self.pruners[*other].about);
            taken & 1 << about != 0 || view & condemn(about) == 0 || rules.has(Flaw::OpenVerdictsReplaced)
        };
        others.filter(is_over).fold(0, |all, other| all | verdict(other))
    }

    /// Decides which snapshots must stay readable, and which never count.
    fn find_roots(&mut self, me: usize, view: Set) {
        let pruner = &mut self.pruners[me];
        for writer in 0..WRITERS {
            // Announced, and stored before anybody looked: it counts, unless it was revoked before.
            if pruner.roots & view & snapshot(writer) != 0 {
                pruner.revokes &= !(1 << writer);
            }
        }
        pruner.roots &= view;
        pruner.removes_old = pruner.names_old && pruner.roots & OLD == 0;
        pruner.at = PrunerAt::ListPacks;
    }

    /// Releases what a root needs and no pack outside has.
    fn judge(&mut self, me: usize, found: Bits) {
        let pruner = self.pruners[me];
        let used = State::chunks_of_snapshots(pruner.roots);
        let found = found | pruner.relied;
        let mut deletes = pruner.packs;
        for chunk in [A, B].into_iter().filter(|chunk| used & chunk != 0) {
            if self.chunks_of(found & !deletes) & chunk != 0 {
                continue;
            }
            let has_it = |pack: &usize| self.chunks(*pack) & chunk != 0;
            let own = members(found & deletes & !pruner.inherited).find(has_it);
            match own.or_else(|| members(found & deletes & !pruner.doomed).find(has_it)) {
                Some(pack) => deletes &= !(1 << pack),
                None => {
                    // The next prune will copy it.
                    (self.pruners[me].at, self.pruners[me].todo) = (PrunerAt::Delete, prune_session(me));
                    return;
                }
            }
        }
        let pruner = &mut self.pruners[me];
        (pruner.deletes, pruner.roots, pruner.relied, pruner.doomed) = (deletes, 0, 0, 0);
        pruner.at = PrunerAt::PutVerdict;
    }

    /// Lists what has to be deleted, and rewrites the index segments that name deleted packs.
    fn plan_deletion(&mut self, rules: &Rules, me: usize, view: Set) {
        let pruner = self.pruners[me];
        let mut todo = (PACKS & Set::from(pruner.deletes)) | pruner.seen & !FORGETS;
        if pruner.removes_old {
            todo |= OLD | pruner.seen & FORGETS;
        }
        for other in members(pruner.taken | 1 << pruner.about) {
            todo |= condemn(other);
        }
        let mut superseded = 0;
        let gone = if rules.has(Flaw::IndexByCondemned) { pruner.packs } else { pruner.deletes };
        if rules.index {
            let segments = (40..49).map(|bit| 1 << bit).filter(|segment| view & segment != 0);
            superseded = segments.filter(|segment| self.indexed(*segment) & gone != 0).fold(0, |all, one| all | one);
        }
        let merged = self.indexed(superseded) & !gone;
        let pruner = &mut self.pruners[me];
        pruner.todo = todo | superseded | prune_session(me);
        (pruner.seen, pruner.replaced, pruner.taken, pruner.inherited, pruner.doomed) = (0, 0, 0, 0, 0);
        pruner.merged = merged;
        pruner.at = if merged == 0 { PrunerAt::Delete } else { PrunerAt::PutMerged };
    }
}
