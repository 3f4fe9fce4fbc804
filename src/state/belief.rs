//! Which moments that this machine has noted are believed: what a clock once said of the future makes nothing on time,
//! neither before that time has come nor after.

use super::{StateDir, load};
use crate::clock::STEP_SECS;
use std::collections::BTreeSet;

/// The most moments that are remembered as wrong.
const MAX_DISTRUSTED: usize = 1000;

/// What is believed at a moment.
#[derive(Debug, Clone, Default)]
pub struct Belief {
    /// The present.
    pub now_secs: i64,
    /// Moments that lay after the present when somebody looked, whether or not they have come since.
    pub distrusted: BTreeSet<i64>,
}

impl Belief {
    /// Returns whether a moment that was noted is believed: one after the present is not, nor one that ever was seen so.
    pub fn is_believed(&self, secs: i64) -> bool {
        !self.is_ahead(secs) && !self.distrusted.contains(&secs)
    }

    fn is_ahead(&self, secs: i64) -> bool {
        secs > self.now_secs.saturating_add(STEP_SECS)
    }
}

impl StateDir {
    /// Returns what is believed now.
    pub fn belief(&self, now_secs: i64) -> Belief {
        let distrusted = load::<BTreeSet<i64>>(&self.path().join("ahead.json")).unwrap_or_default();
        Belief { now_secs, distrusted }
    }

    /// Remembers those of the moments that lie after the present: their time will come, and they will be as wrong. Where
    /// that cannot be kept, they are disbelieved for now.
    pub fn note_ahead(&self, belief: &mut Belief, moments: impl Iterator<Item = i64>) {
        let ahead: Vec<i64> = moments.filter(|secs| belief.is_ahead(*secs)).collect();
        let known = belief.distrusted.len();
        belief.distrusted.extend(ahead);
        if belief.distrusted.len() == known {
            return;
        }
        while belief.distrusted.len() > MAX_DISTRUSTED {
            belief.distrusted.pop_first();
        }
        let kept = serde_json::to_vec(&belief.distrusted)
            .map_err(|error| error.to_string())
            .and_then(|text| self.write(&self.path().join("ahead.json"), &text).map_err(|error| error.chain()));
        if let Err(error) = kept {
            tracing::info!("What the clock has said of the future is not remembered: {error}");
        }
    }
}
