//! The store as a set of objects, and what every process knows.

/// The most writers and pruners a model can have.
pub const WRITERS: usize = 2;
pub const PRUNERS: usize = 3;

/// A set of objects: what is stored, or what a listing has shown.
pub type Set = u64;
/// A set of chunks, of packs, of writers or of pruners.
pub type Bits = u8;

/// The chunks: `A` is in the snapshot that is kept, `B` in the one that is forgotten, both in all new ones.
pub const A: Bits = 1;
pub const B: Bits = 2;

/// Packs, from bit 0: two old ones, one of each writer, one copy of each pruner.
pub const PACKS: Set = 0x7f;
pub const OLD_PACKS: Set = 0x3;
pub const fn writer_pack(writer: usize) -> Set {
    1 << (2 + writer)
}
pub const fn copied_pack(pruner: usize) -> Set {
    1 << (4 + pruner)
}

/// Snapshots: the one that is kept, the one that is forgotten, one of each writer.
pub const KEPT: Set = 1 << 8;
pub const OLD: Set = 1 << 9;
pub const SNAPSHOTS: Set = 0xf << 8;
pub const fn snapshot(writer: usize) -> Set {
    1 << (10 + writer)
}

pub const fn session(writer: usize) -> Set {
    1 << (12 + writer)
}
pub const fn intent(writer: usize) -> Set {
    1 << (14 + writer)
}
pub const fn fence(writer: usize) -> Set {
    1 << (16 + writer)
}

pub const fn prune_session(pruner: usize) -> Set {
    1 << (18 + pruner)
}
pub const fn prune_fence(pruner: usize) -> Set {
    1 << (21 + pruner)
}
pub const fn condemn(pruner: usize) -> Set {
    1 << (24 + pruner)
}
pub const fn census(pruner: usize) -> Set {
    1 << (27 + pruner)
}
pub const fn verdict(pruner: usize) -> Set {
    1 << (30 + pruner)
}
/// Says that a pruner's condemn mark is void; only in the draft of the protocol.
pub const fn cancel(pruner: usize) -> Set {
    1 << (33 + pruner)
}

/// Forget marks of the old snapshot: a late undo puts a new one.
pub const FORGETS: Set = 0x7 << 36;
pub const fn forget(number: u8) -> Set {
    1 << (36 + number)
}

/// Index segments: one of the old packs, one of each writer, one of each copy, one of each pruner that
/// rewrote the index.
pub const SEGMENTS: Set = 0x1ff << 40;
pub const OLD_SEGMENT: Set = 1 << 40;
pub const fn writer_segment(writer: usize) -> Set {
    1 << (41 + writer)
}
pub const fn copied_segment(pruner: usize) -> Set {
    1 << (43 + pruner)
}
pub const fn merged_segment(pruner: usize) -> Set {
    1 << (46 + pruner)
}

pub const CONDEMNS: Set = 0x7 << 24;
pub const VERDICTS: Set = 0x7 << 30;

/// The order in which a process deletes what it has to. A census is deleted together with its condemn mark:
/// without that nobody looks at it.
pub const DELETION_ORDER: [(Set, &str); 9] = [
    (SNAPSHOTS, "deletes a snapshot"),
    (SEGMENTS, "deletes an index segment"),
    (PACKS, "deletes a pack"),
    (VERDICTS, "deletes an older verdict"),
    (CONDEMNS, "deletes a condemn mark"),
    (FORGETS, "deletes a forget mark"),
    (0x3 << 14, "deletes an intent"),
    (0x3 << 12 | 0x7 << 18, "deletes a session"),
    (0x3 << 16 | 0x7 << 21, "deletes a fence"),
];

/// Where a writer is: what it does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WriterAt {
    #[default]
    PutSession,
    ListMarks,
    ListPacks,
    PutPack,
    PutSegment,
    PutIntent,
    CheckFence,
    PutSnapshot,
    CheckFenceAgain,
    /// Exit 0 is told: deletes what it has announced.
    Succeeded,
    /// Deletes what it has announced, its snapshot too.
    Failed,
    /// Does nothing more, and the snapshot it has tried to store may appear at any time.
    Uncertain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Writer {
    pub at: WriterAt,
    /// Packs that count as absent, then the chunks of its own pack.
    pub absent: Bits,
    pub stores: Bits,
    pub todo: Set,
}

/// Where a pruner is: what it does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PrunerAt {
    #[default]
    PutSession,
    LookForOthers,
    FenceOther,
    /// Only in the draft of the protocol.
    PutCancel,
    Plan,
    PutCopies,
    PutCopiesSegment,
    PutCondemn,
    TakeCensus,
    PutCensus,
    Await,
    FenceWriter,
    ListSnapshots,
    ListPacks,
    PutVerdict,
    CheckFence,
    ListSegments,
    PutMerged,
    Delete,
    ListForMemory,
    PutMemory,
    CheckMemory,
    /// Ends its session, though what it has put last may still appear.
    Uncertain,
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pruner {
    pub at: PrunerAt,
    /// Whose session is fenced, or whose condemn mark is cancelled.
    pub target: u8,
    /// What may still appear.
    pub pending: Set,
    /// Whose condemn mark the verdict is about: always its own, but in the draft of the protocol.
    pub about: u8,
    /// Marks it has seen and deletes at the end.
    pub seen: Set,
    /// Of these, the verdicts it revokes.
    pub replaced: Set,
    /// Pruners whose condemn marks it takes over, and the packs those name.
    pub taken: Bits,
    pub inherited: Bits,
    /// Packs outside all condemn marks that had what it needs when it planned: not looked for again.
    pub relied: Bits,
    /// Packs that another's verdict names: somebody may be deleting them.
    pub doomed: Bits,
    /// Content of its condemn mark: packs, and whether the old snapshot is named.
    pub packs: Bits,
    pub names_old: bool,
    /// Content of its census.
    pub awaited: Bits,
    /// Chunks of its copied pack.
    pub copies: Bits,
    /// Content of its verdict: packs, whether the old snapshot is removed, snapshots of which writers are revoked.
    pub deletes: Bits,
    pub removes_old: bool,
    pub revokes: Bits,
    /// Snapshots that must stay readable: first those that would if they were listed.
    pub roots: Set,
    /// Packs of its merged segment.
    pub merged: Bits,
    pub todo: Set,
}

/// Where the user is, who forgets the old snapshot and brings it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UserAt {
    #[default]
    Content,
    Forgotten,
    LookForPrunes,
    LookForSnapshot,
    ForgetAgain,
    /// The undo has told that the snapshot is back.
    Restored,
    /// It was told that it is too late.
    GivenUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    pub store: Set,
    /// Of every process the object it has put last, if a listing of another may still miss it.
    pub unsettled: [Set; WRITERS + PRUNERS + 1],
    pub writers: [Writer; WRITERS],
    pub pruners: [Pruner; PRUNERS],
    pub user: UserAt,
    /// How often the old snapshot was forgotten.
    pub forgets: u8,
    /// Which of these forget marks were recalled.
    pub recalled: Bits,
}

/// A process, by its number among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    Writer(usize),
    Pruner(usize),
    User,
    /// Who puts back what was deleted.
    Copy,
}

impl Actor {
    pub fn number(self) -> usize {
        match self {
            Actor::Writer(writer) => writer,
            Actor::Pruner(pruner) => WRITERS + pruner,
            Actor::User | Actor::Copy => WRITERS + PRUNERS,
        }
    }
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Actor::Writer(writer) => write!(f, "writer {}", writer + 1),
            Actor::Pruner(pruner) => write!(f, "pruner {}", pruner + 1),
            Actor::User => write!(f, "user"),
            Actor::Copy => write!(f, "copy"),
        }
    }
}

/// The members of a set of packs, writers or pruners.
pub fn members(bits: Bits) -> impl Iterator<Item = usize> {
    (0..8).filter(move |number| bits & 1 << number != 0)
}

impl State {
    pub fn has(&self, objects: Set) -> bool {
        self.store & objects == objects
    }

    /// Returns the chunks of a pack.
    pub fn chunks(&self, pack: usize) -> Bits {
        match pack {
            0 => A,
            1 => A | B,
            2 | 3 => self.writers[pack - 2].stores,
            _ => self.pruners[pack - 4].copies,
        }
    }

    /// Returns the chunks of several packs.
    pub fn chunks_of(&self, packs: Bits) -> Bits {
        members(packs).fold(0, |chunks, pack| chunks | self.chunks(pack))
    }

    /// Returns the chunks of several snapshots.
    pub fn chunks_of_snapshots(snapshots: Set) -> Bits {
        let of = |wanted: Set, chunks: Bits| if snapshots & wanted == 0 { 0 } else { chunks };
        of(KEPT, A) | of(OLD, B) | of(snapshot(0) | snapshot(1), A | B)
    }

    /// Returns the packs that index segments name.
    pub fn indexed(&self, segments: Set) -> Bits {
        let mut packs = if segments & OLD_SEGMENT == 0 { 0 } else { OLD_PACKS as Bits };
        for writer in (0..WRITERS).filter(|writer| segments & writer_segment(*writer) != 0) {
            packs |= writer_pack(writer) as Bits;
        }
        for pruner in 0..PRUNERS {
            packs |= if segments & copied_segment(pruner) == 0 { 0 } else { copied_pack(pruner) as Bits };
            packs |= if segments & merged_segment(pruner) == 0 { 0 } else { self.pruners[pruner].merged };
        }
        packs
    }
}
