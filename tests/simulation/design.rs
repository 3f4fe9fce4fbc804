//! Designs that are known to lose data, made out of the sound one by hiding marks from those who should heed them.

use crate::world::{Profile, Role};
use bakfs::format::mark::{Mark, SessionKind};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Design {
    /// The product as it is.
    Sound,
    /// A writer's lock expires without its noticing.
    LockExpiry,
    /// Prune waits for one of the backups that run (duplicacy's two overlapping backups).
    OneBackupSeen,
    /// Prunes run beside one another.
    ParallelPrunes,
    /// Writers go on relying on what is condemned.
    CondemnedReused,
    /// A snapshot that appears after its writer was fenced counts.
    LateSnapshotsCount,
    /// Prunes do not see what others have condemned.
    CondemnedUnseen,
    /// What is stored is seen by others at some later time, and nobody waits for that.
    NoBarriers,
    /// What was given up counts when it appears.
    RecallsUnheeded,
    /// The same, and what was deleted comes back.
    UndoneMarksCount,
}

impl Design {
    pub const BAD: [Design; 7] = [
        Design::LockExpiry,
        Design::OneBackupSeen,
        Design::ParallelPrunes,
        Design::CondemnedReused,
        Design::LateSnapshotsCount,
        Design::CondemnedUnseen,
        Design::NoBarriers,
    ];

    /// Those that lose no content, and hide snapshots or show what is none.
    pub const HIDING: [Design; 2] = [Design::RecallsUnheeded, Design::UndoneMarksCount];

    /// Makes the circumstances common in which the design fails.
    pub fn adjust(self, profile: &mut Profile) {
        if self != Design::Sound {
            (profile.short, profile.replay) = (0, 0);
        }
        match self {
            Design::LockExpiry | Design::LateSnapshotsCount => profile.premature = 3000,
            Design::CondemnedUnseen => {
                profile.premature = 6000;
                profile.sleep = 200;
                profile.switch_at_change = 5000;
                // What fails is no part of it, and ends most prunes before they delete.
                (profile.crash, profile.lost_reply, profile.late_put, profile.transient) = (0, 0, 0, 0);
            }
            Design::NoBarriers => profile.stale = 7000,
            Design::RecallsUnheeded => {
                (profile.late_put, profile.uncertain) = (1500, 10_000);
            }
            Design::UndoneMarksCount => profile.replay = 200,
            _ => {}
        }
    }

    /// Returns whether a mark is kept from a reader of a listing. `is_own` tells that the reader has put it, and
    /// `is_first` that it is the first open backup of the listing.
    pub fn hides(self, role: Role, mark: &Mark, is_own: bool, is_first: bool) -> bool {
        if role == Role::Auditor || is_own {
            return false;
        }
        match (self, mark) {
            // Else a backup notices that a prune was blind to it.
            (_, Mark::Verdict(_) | Mark::Census { .. }) if Design::BAD.contains(&self) => role == Role::Writer,
            (Design::LockExpiry, Mark::Fence { .. }) => role == Role::Writer,
            (Design::OneBackupSeen, Mark::Session(session)) => {
                role == Role::Pruner && session.kind == SessionKind::Backup && !is_first
            }
            (Design::ParallelPrunes, Mark::Session(session)) => {
                role == Role::Pruner && session.kind == SessionKind::Prune
            }
            (Design::CondemnedReused, Mark::Condemn(_)) => role == Role::Writer,
            (Design::LateSnapshotsCount, Mark::Intent { .. }) => role == Role::Pruner,
            (Design::CondemnedUnseen, Mark::Condemn(_)) => role == Role::Pruner,
            (Design::RecallsUnheeded | Design::UndoneMarksCount, Mark::Recall { .. }) => true,
            _ => false,
        }
    }
}
