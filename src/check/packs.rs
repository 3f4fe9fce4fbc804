//! Packs: those that are chosen are read whole, and what is found is noted in the ledger as it goes on.

use super::{Check, Selection, told_text};
use crate::clock::now_secs;
use crate::error::{Error, ErrorKind, Result};
use crate::format::index::PackEntry;
use crate::format::pack::{ChunkRecord, Directory};
use crate::id::ObjectId;
use crate::quantity::Share;
use crate::repo::read::ledger::{Ledger, Record, Records, State};
use crate::repo::read::pack_scan::{Counts, PackReader, Witness};
use crate::store::Object;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What an interrupted check has to read again at most, besides the packs it was at.
const NOTE_EVERY: Duration = Duration::from_secs(2);

/// What was read.
#[derive(Debug, Default)]
pub struct Done {
    /// Packs.
    pub packs: u64,
    /// Their length.
    pub pack_bytes: u64,
    /// Chunks that are what their ids say.
    pub chunks: u64,
}

/// Chooses packs: those that looked damaged always; of the others those never verified first, and then
/// the oldest, until the share is reached. So each share read makes the whole verified one share sooner.
pub fn choose(
    packs: &HashMap<ObjectId, u64>,
    records: &Records,
    selection: Option<&Selection>,
    now_secs: u64,
) -> Vec<(ObjectId, u64)> {
    let mut chosen = Vec::new();
    let mut others = Vec::new();
    for (id, len) in packs {
        if records.is_suspect(id) {
            chosen.push((*id, *len));
        } else if let Some(selection) = selection {
            let at = records.verified_at(id, *len, now_secs);
            if at.is_none_or(|at| selection.before_secs.is_none_or(|before| at < before)) {
                others.push((at, *id, *len));
            }
        }
    }
    chosen.sort_unstable();
    others.sort_unstable();
    let total: u64 = packs.values().sum();
    let mut left = selection.map_or(0, |selection| selection.share.of(total));
    for (_, id, len) in others {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(len.max(1));
        chosen.push((id, len));
    }
    chosen
}

impl Share {
    fn of(self, total_bytes: u64) -> u64 {
        match self {
            Share::All => u64::MAX,
            Share::Bytes(bytes) => bytes.max(1),
            Share::PerMillion(share) => {
                let bytes = u128::from(total_bytes) * u128::from(share);
                u64::try_from(bytes.div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
            }
        }
    }
}

/// What threads found and is not in the ledger yet.
#[derive(Default)]
struct Notes {
    new: Vec<(ObjectId, Record)>,
    written: Option<Instant>,
}

impl Notes {
    fn add(&mut self, ledger: Option<&Ledger>, pack: ObjectId, record: Record) {
        self.new.push((pack, record));
        if self.written.is_none_or(|written| written.elapsed() >= NOTE_EVERY) {
            self.write(ledger);
        }
    }

    fn write(&mut self, ledger: Option<&Ledger>) {
        let Some(ledger) = ledger else { return };
        if ledger.update(|records| self.new.iter().for_each(|(pack, record)| records.checked(*pack, *record))) {
            self.new.clear();
        }
        self.written = Some(Instant::now());
    }
}

/// Reads the chosen packs on all threads, in their order.
pub fn check(check: &Check<'_>, chosen: &[(ObjectId, u64)], ledger: Option<&Ledger>) -> Result<Done> {
    check.monitor.expect(0, chosen.iter().map(|(_, len)| len).sum());
    let counts = Counts::new(&check.index);
    let notes = Mutex::new(Notes::default());
    let next = AtomicUsize::new(0);
    let work = || -> Result<Done> {
        let mut reader = PackReader::default();
        let mut done = Done::default();
        while let Some((id, len_bytes)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            let at_secs = now_secs();
            let mut told = Told { check, counts: &counts, id, is_sound: true, is_there: false, chunks: 0 };
            if let Err(error) = reader.read(check.repository, &check.index, id, len_bytes, &mut told) {
                // Nobody goes on, and what was verified counts.
                next.store(chosen.len(), Ordering::Relaxed);
                notes.lock().write(ledger);
                return Err(error);
            }
            done.chunks += told.chunks;
            // One that is gone was removed by another process, or told before.
            if told.is_there || !told.is_sound {
                done.packs += 1;
                done.pack_bytes += len_bytes;
                let state = if told.is_sound { State::Verified } else { State::Suspect };
                notes.lock().add(ledger, id, Record { len_bytes, at_secs, state });
            }
        }
        notes.lock().write(ledger);
        Ok(done)
    };
    std::thread::scope(|scope| -> Result<Done> {
        let threads: Vec<_> = (1..check.threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for thread in threads {
            let ended =
                thread.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "A thread of the check panicked")));
            all = all.and_then(|all| {
                let ended = ended?;
                Ok(Done {
                    packs: all.packs + ended.packs,
                    pack_bytes: all.pack_bytes + ended.pack_bytes,
                    chunks: all.chunks + ended.chunks,
                })
            });
        }
        all
    })
}

/// Hears what is found in one pack.
struct Told<'a> {
    check: &'a Check<'a>,
    counts: &'a Counts,
    id: ObjectId,
    is_sound: bool,
    is_there: bool,
    chunks: u64,
}

impl Witness for Told<'_> {
    fn advance(&mut self, bytes: u64) {
        self.check.monitor.advance(0, bytes);
    }

    fn problem(&mut self, problem: String) {
        self.is_sound = false;
        self.check.damage.lock().object(Object::Pack(self.id), told_text(&problem));
    }

    fn frame_problem(&mut self, number: u32, problem: String) {
        self.is_sound = false;
        self.check.damage.lock().frame(self.id, number, told_text(&problem));
    }

    fn lost(&mut self, problem: String) {
        self.is_sound = false;
        self.check.damage.lock().pack(self.id, told_text(&problem));
    }

    fn directory(&mut self, _pack: &PackEntry, directory: &Directory) {
        self.is_there = true;
        if self.counts.differ(&self.check.index, self.id, directory) {
            self.problem("its own directory says other things than the index".into());
        }
    }

    fn frame(&mut self, _pack: &PackEntry, _plain: &[u8], chunks: &[ChunkRecord]) -> Result<()> {
        self.chunks += chunks.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ObjectId {
        ObjectId([n; 32])
    }

    /// As many nights as a share has parts verify everything, whatever the lengths.
    #[test]
    fn shares_come_round() {
        let packs: HashMap<_, _> = (0..97u8).map(|n| (id(n), 1000 + u64::from(n) * 37 % 400)).collect();
        let mut records = Records::default();
        let selection = Selection { share: Share::PerMillion(50_000), before_secs: None };
        let mut nights = HashMap::new();
        for night in 0..20u64 {
            let chosen = choose(&packs, &records, Some(&selection), night);
            let bytes: u64 = chosen.iter().map(|(_, len)| len).sum();
            let total: u64 = packs.values().sum();
            assert!(bytes <= total / 20 + 1400, "a bounded cost: {bytes}");
            for (pack, len_bytes) in chosen {
                records.checked(pack, Record { len_bytes, at_secs: night, state: State::Verified });
                nights.insert(pack, night);
            }
        }
        assert_eq!(nights.len(), packs.len());
        // The next one takes the oldest.
        let chosen: Vec<_> = choose(&packs, &records, Some(&selection), 20).iter().map(|(pack, _)| *pack).collect();
        let newest_chosen = chosen.iter().map(|pack| nights[pack]).max();
        assert!(nights.iter().all(|(pack, night)| chosen.contains(pack) || Some(*night) >= newest_chosen));
    }

    #[test]
    fn age_length_and_suspicion_decide() {
        let packs: HashMap<_, _> = (0..5u8).map(|n| (id(n), 100)).collect();
        let mut records = Records::default();
        let verified = |at_secs| Record { len_bytes: 100, at_secs, state: State::Verified };
        records.checked(id(0), verified(10));
        records.checked(id(1), verified(50));
        records.checked(id(2), Record { len_bytes: 99, ..verified(50) });
        records.checked(id(3), Record { state: State::Suspect, ..verified(50) });
        records.checked(id(4), verified(1000));
        let chosen = |selection: Option<Selection>| -> Vec<u8> {
            choose(&packs, &records, selection.as_ref(), 60).iter().map(|(pack, _)| pack.0[0]).collect()
        };
        assert_eq!(chosen(None), [3], "what looked damaged is always read");
        assert_eq!(chosen(Some(Selection { share: Share::All, before_secs: Some(40) })), [3, 2, 4, 0]);
        assert_eq!(chosen(Some(Selection { share: Share::All, before_secs: None })), [3, 2, 4, 0, 1]);
        assert_eq!(chosen(Some(Selection { share: Share::Bytes(150), before_secs: None })), [3, 2, 4]);
    }
}
