//! States that nobody can ever tell apart are made equal.

use super::rules::{Flaw, Listing, Rules};
use super::state::*;

impl Rules {
    /// Forgets what nobody will ever read.
    pub fn normal(&self, mut state: State) -> State {
        let listed = state.unsettled.iter().fold(state.store, |all, object| all | object);
        for (me, pruner) in state.pruners.iter_mut().enumerate() {
            if pruner.at == PrunerAt::Stopped {
                pruner.strip(me, listed);
            }
        }
        for (me, writer) in state.writers.iter_mut().enumerate() {
            let is_over = matches!(writer.at, WriterAt::Succeeded | WriterAt::Failed);
            if is_over && listed & writer_pack(me) == 0 {
                writer.stores = 0;
            }
        }
        // The rest holds while a listing shows one moment and only the designs of docs/prune.md are read.
        if self.listing == Listing::Exact && !self.cleanup && !self.index && !self.has(Flaw::DecideForOthers) {
            self.forget_unread(&mut state);
        }
        state
    }

    fn forget_unread(&self, state: &mut State) {
        for (me, writer) in state.writers.iter_mut().enumerate() {
            // An intent is read if its snapshot is not there and may still come.
            let is_there = state.store & snapshot(me) != 0;
            let may_come = matches!(writer.at, WriterAt::PutIntent | WriterAt::CheckFence | WriterAt::PutSnapshot)
                || writer.at == WriterAt::Uncertain;
            if !may_come && (!is_there || writer.at == WriterAt::Succeeded) {
                state.store &= !intent(me);
            }
            // A fenced session is no session.
            if state.store & fence(me) != 0 {
                state.store &= !session(me);
            }
            writer.todo &= state.store;
            if !self.has(Flaw::PacksBeforeMarks) {
                writer.absent &= state.store as Bits;
            }
            let is_over = matches!(writer.at, WriterAt::Succeeded | WriterAt::Failed) && writer.todo == 0;
            if is_over && state.store & intent(me) == 0 {
                state.store &= !fence(me);
            }
        }
        let open = |writer: &usize| state.store & session(*writer) != 0 && state.store & fence(*writer) == 0;
        let open = (0..WRITERS).filter(open).fold(0, |all, writer| all | 1 << writer);
        let may_come = |writer: &usize| {
            let at = state.writers[*writer].at;
            let is_fenced = state.store & fence(*writer) != 0;
            state.store & snapshot(*writer) != 0
                || matches!(at, WriterAt::PutSnapshot | WriterAt::Uncertain)
                || at == WriterAt::CheckFence && !is_fenced
        };
        let revocable = (0..WRITERS).filter(may_come).fold(0, |all, writer| all | 1 << writer);
        let packs = (state.store & PACKS) as Bits;
        for (me, pruner) in state.pruners.iter_mut().enumerate() {
            pruner.awaited &= open;
            pruner.revokes &= revocable;
            pruner.packs &= packs;
            pruner.deletes &= packs;
            pruner.todo &= state.store;
            if pruner.at == PrunerAt::Delete && pruner.todo == 0 {
                pruner.at = PrunerAt::Stopped;
            }
            pruner.inherited &= packs;
            pruner.seen &= state.store;
            pruner.replaced &= state.store;
            pruner.doomed &= packs;
            if !matches!(pruner.at, PrunerAt::Plan | PrunerAt::PutCopies | PrunerAt::PutCondemn | PrunerAt::TakeCensus)
            {
                pruner.taken &= (state.store >> 24) as Bits;
            }
            if state.store & prune_fence(me) != 0 {
                state.store &= !prune_session(me);
            }
            if pruner.at == PrunerAt::Stopped {
                if state.store & condemn(me) == 0 {
                    pruner.deletes = 0;
                }
                let removes = pruner.removes_old
                    && state.store & OLD != 0
                    && (self.has(Flaw::RemovedForEver) || state.store & condemn(me) != 0);
                pruner.removes_old = removes;
                if !removes && pruner.revokes == 0 && pruner.deletes == 0 {
                    state.store &= !verdict(me);
                }
                if state.store & prune_session(me) == 0 {
                    state.store &= !prune_fence(me);
                }
                let store = state.store;
                pruner.strip(me, store);
            }
        }
    }
}

impl Pruner {
    /// Keeps of a pruner that has stopped only the content of what it has stored.
    fn strip(&mut self, me: usize, listed: Set) {
        let old = *self;
        *self = Pruner { at: old.at, ..Pruner::default() };
        if listed & condemn(me) != 0 {
            (self.packs, self.names_old) = (old.packs, old.names_old);
        }
        if listed & census(me) != 0 {
            self.awaited = old.awaited;
        }
        if listed & verdict(me) != 0 {
            self.about = old.about;
            (self.deletes, self.removes_old, self.revokes) = (old.deletes, old.removes_old, old.revokes);
        }
        if listed & copied_pack(me) != 0 {
            self.copies = old.copies;
        }
        if listed & merged_segment(me) != 0 {
            self.merged = old.merged;
        }
    }
}
