//! The protocol: what each process does next. One step is one operation on the store.

use super::explore::Model;
use super::rules::{Flaw, Listing, Rules};
use super::state::*;

/// Gathers the steps that are possible in a state.
pub struct Next<'a> {
    pub rules: &'a Rules,
    pub state: &'a State,
    who: Actor,
    into: &'a mut Vec<(Actor, &'static str, State)>,
}

impl Next<'_> {
    pub fn add(&mut self, what: &'static str, state: State) {
        self.into.push((self.who, what, self.rules.normal(state)));
    }

    /// Puts one object.
    pub fn put(&mut self, what: &'static str, object: Set, then: impl FnOnce(&mut State)) {
        let mut state = *self.state;
        state.store |= object;
        self.touch(&mut state, object);
        then(&mut state);
        self.add(what, state);
    }

    /// Deletes the next of the objects a process has to delete; returns whether there was one.
    pub fn delete(&mut self, todo: Set, then: impl FnOnce(&mut State, Set)) -> bool {
        let Some((class, what)) = DELETION_ORDER.into_iter().find(|(class, _)| todo & class != 0) else { return false };
        let object = 1 << (todo & class).trailing_zeros();
        let mut state = *self.state;
        state.store &= !(object | (object & CONDEMNS) << 3);
        self.touch(&mut state, object);
        then(&mut state, todo & !object);
        self.add(what, state);
        true
    }

    fn touch(&self, state: &mut State, object: Set) {
        if self.rules.listing != Listing::Exact {
            state.unsettled[self.who.number()] = object;
        }
    }

    /// Lists, and goes on by what was seen.
    pub fn list(&mut self, what: &'static str, mut then: impl FnMut(&mut State, Set)) {
        for view in self.rules.views(self.state, self.who) {
            let mut state = *self.state;
            then(&mut state, view);
            self.add(what, state);
        }
    }
}

impl Model for Rules {
    type State = State;
    type Actor = Actor;

    fn initial(&self) -> State {
        let mut state = State { store: OLD_PACKS | KEPT | OLD | OLD_SEGMENT, ..State::default() };
        if !self.user {
            state.store |= forget(0);
            state.user = UserAt::Forgotten;
        }
        self.normal(state)
    }

    fn steps(&self, state: &State, into: &mut Vec<(Actor, &'static str, State)>) {
        let actors = (0..self.writers).map(Actor::Writer).chain((0..self.pruners).map(Actor::Pruner));
        let others = self.user.then_some(Actor::User).into_iter().chain(self.replays.then_some(Actor::Copy));
        for who in actors.chain(others) {
            if !state.may_begin(who) {
                continue;
            }
            let mut next = Next { rules: self, state, who, into };
            if state.unsettled[who.number()] != 0 {
                let mut settled = *state;
                settled.unsettled[who.number()] = 0;
                next.add("waits until all see it", settled);
                if self.listing == Listing::StaleAndSettled {
                    continue;
                }
            }
            match who {
                Actor::Writer(writer) => next.writer(writer),
                Actor::Pruner(pruner) => next.pruner(pruner),
                Actor::User => next.user(),
                Actor::Copy => next.copy(),
            }
        }
    }

    fn fault(&self, state: &State) -> Option<String> {
        Rules::fault(self, state)
    }

    fn sights(&self, state: &State) -> u32 {
        let any = |seen: &dyn Fn(&Pruner) -> bool| state.pruners.iter().any(seen);
        let is_ending = |pruner: &Pruner| pruner.at == PrunerAt::Delete && pruner.todo & (PACKS | CONDEMNS) == 0;
        let has_deleted = !state.has(OLD_PACKS);
        let all_succeeded = state.writers[..self.writers].iter().all(|writer| writer.at == WriterAt::Succeeded);
        let revoked = self.void(state, state.store) & !OLD;
        [
            has_deleted && all_succeeded,
            has_deleted && any(&|pruner| is_ending(pruner) && pruner.deletes != 0),
            has_deleted && any(&|pruner| pruner.at == PrunerAt::Delete && (pruner.todo & CONDEMNS).count_ones() > 1),
            state.writers[..self.writers].iter().any(|writer| writer.at == WriterAt::Failed),
            state.store & revoked != 0,
            state.user == UserAt::Restored && state.store & VERDICTS != 0,
            state.user == UserAt::GivenUp,
        ]
        .into_iter()
        .enumerate()
        .fold(0, |sights, (bit, is_seen)| sights | u32::from(is_seen) << bit)
    }
}

impl Next<'_> {
    fn writer(&mut self, me: usize) {
        use WriterAt::*;
        let rules = *self.rules;
        let writer = self.state.writers[me];
        let unannounce = intent(me) | session(me);
        match writer.at {
            PutSession => self.put("puts its session", session(me), |state| {
                state.writers[me].at = if rules.has(Flaw::PacksBeforeMarks) { ListPacks } else { ListMarks };
            }),
            ListMarks => self.list("lists marks: what is condemned is absent", |state, view| {
                let condemned = rules.open(view).fold(0, |packs, pruner| packs | state.pruners[pruner].packs);
                state.writers[me].absent |= condemned;
                if rules.has(Flaw::PacksBeforeMarks) {
                    let present = !state.writers[me].absent & PACKS as Bits;
                    state.rely_on(me, present);
                } else {
                    state.writers[me].at = ListPacks;
                }
            }),
            ListPacks => self.list("lists index segments and packs", |state, view| {
                let found = match rules.has(Flaw::IndexTrusted) {
                    true => state.indexed(view & SEGMENTS),
                    false => rules.found_packs(state, view),
                };
                if rules.has(Flaw::PacksBeforeMarks) {
                    state.writers[me].absent = !found;
                    state.writers[me].at = ListMarks;
                } else {
                    let present = found & !state.writers[me].absent;
                    state.rely_on(me, present);
                }
            }),
            PutPack => self.put("puts a pack", writer_pack(me), |state| {
                state.writers[me].at = if rules.index { PutSegment } else { PutIntent };
            }),
            PutSegment => self.put("puts an index segment", writer_segment(me), |state| {
                state.writers[me].at = PutIntent;
            }),
            PutIntent if rules.has(Flaw::NoIntents) => self.list("announces nothing", |state, _| {
                state.writers[me].at = CheckFence;
            }),
            PutIntent => self.put("puts an intent", intent(me), |state| state.writers[me].at = CheckFence),
            CheckFence => self.list("lists marks: fenced?", |state, view| {
                state.writers[me].at = PutSnapshot;
                if rules.is_fenced(view, session(me), fence(me)) {
                    state.writers[me].at = Failed;
                    state.writers[me].todo = unannounce;
                }
            }),
            PutSnapshot => {
                self.put("puts its snapshot", snapshot(me), |state| state.writers[me].at = CheckFenceAgain);
                if rules.has(Flaw::EndWhenUncertain) {
                    self.list("gets no answer for its snapshot, and ends", |state, _| {
                        state.writers[me].at = Uncertain;
                        state.writers[me].todo = unannounce;
                    });
                }
            }
            CheckFenceAgain => self.list("lists marks: fenced?", |state, view| {
                let is_fenced = rules.is_fenced(view, session(me), fence(me));
                state.writers[me].at = if is_fenced { Failed } else { Succeeded };
                state.writers[me].todo = if is_fenced { unannounce | snapshot(me) } else { unannounce };
            }),
            Uncertain => {
                self.delete(writer.todo, |state, todo| state.writers[me].todo = todo);
                if self.state.store & snapshot(me) == 0 {
                    self.put("its snapshot appears late", snapshot(me), |state| {
                        state.writers[me].at = Failed;
                    });
                }
            }
            Succeeded | Failed => {
                self.delete(writer.todo, |state, todo| state.writers[me].todo = todo);
            }
        }
    }

    fn user(&mut self) {
        use UserAt::*;
        let rules = *self.rules;
        let first = self.state.forgets;
        match self.state.user {
            Content | ForgetAgain => self.put("forgets the old snapshot", forget(first), |state| {
                state.forgets += 1;
                state.user = Forgotten;
            }),
            Forgotten => {
                let mark = self.state.store & FORGETS;
                let undo = |state: &mut State, rest: Set| {
                    state.user = LookForPrunes;
                    let undone = ((mark & !rest) >> 36) as Bits;
                    state.recalled |= if rules.has(Flaw::UndoNotRecalled) { 0 } else { undone };
                };
                if first < 3 && !self.delete(mark, undo) {
                    self.list("finds nothing to undo", |state, _| state.user = GivenUp);
                }
            }
            LookForPrunes => self.list("lists marks: condemned?", |state, view| {
                let is_condemned = rules.open(view).any(|pruner| state.pruners[pruner].names_old);
                state.user = match (is_condemned, rules.has(Flaw::UncheckedUndo)) {
                    (true, _) => ForgetAgain,
                    (false, true) => Restored,
                    (false, false) => LookForSnapshot,
                };
            }),
            LookForSnapshot => self.list("lists snapshots: still there?", |state, view| {
                state.user = if view & OLD == 0 { GivenUp } else { Restored };
            }),
            Restored | GivenUp => {}
        }
    }

    /// What was recalled says nothing when it is put back: nobody could tell that state from this one.
    fn copy(&mut self) {
        let gone = |number: &u8| self.state.store & forget(*number) == 0 && self.state.recalled & 1 << number == 0;
        for number in (0..self.state.forgets).filter(gone).collect::<Vec<_>>() {
            self.put("puts a forget mark back", forget(number), |_| {});
        }
    }
}

impl State {
    /// Equal processes begin in the order of their numbers: which of them is which makes no difference.
    fn may_begin(&self, who: Actor) -> bool {
        match who {
            Actor::Writer(writer) => writer == 0 || self.writers[writer - 1].at != WriterAt::PutSession,
            Actor::Pruner(pruner) => pruner == 0 || self.pruners[pruner - 1].at != PrunerAt::PutSession,
            Actor::User | Actor::Copy => true,
        }
    }

    /// A writer has decided which packs it relies on, and stores the rest.
    fn rely_on(&mut self, me: usize, packs: Bits) {
        let stores = (A | B) & !self.chunks_of(packs);
        let at = if stores == 0 { WriterAt::PutIntent } else { WriterAt::PutPack };
        self.writers[me] = Writer { at, stores, ..Writer::default() };
    }
}
