//! Listing objects: by prefix where names are all there is, folder by folder elsewhere.

use super::explain::Task;
use super::failure::{Cause, Failure};
use super::http::{MAX_ANSWER_BYTES, Purpose};
use super::{RemoteStore, Terms, Tries, id_of};
use crate::error::{Error, ErrorKind, Result};
use crate::quantity::{are, counted};
use crate::store::{Listed, Object, ObjectKind};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// The longest pause between two looks at a listing that lags behind.
const MAX_LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Names of a listing that are no objects may be so many, and as many as it has objects.
const MAX_STRAYS: usize = 1 << 16;
/// No page is longer: a service sends at most 10 000 names on one, most 1000.
pub(super) const MAX_PAGE_BYTES: u64 = 16 << 20;
/// No listing of key slots, which are read before anything is known of a repository, is longer or takes longer.
const MAX_KEYS_BYTES: u64 = 4 << 20;
const MAX_KEYS_TIME: Duration = Duration::from_secs(30);
/// Of objects that a listing lacks and that were there before, so many are looked for one by one.
const MAX_LOOKED_FOR: usize = 64;

/// One entry of a listing, with its path below the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub path: String,
    pub len_bytes: u64,
    pub is_folder: bool,
    pub modified_secs: Option<i64>,
}

/// How far one listing goes.
pub(super) struct Bounds {
    /// What it may have.
    pub max_objects: usize,
    /// Whether it ends at its bound, and does not fail there.
    pub is_sample: bool,
}

impl Bounds {
    /// Fails for good beyond the bounds: another try would be as long.
    pub fn hold(&self, kept: usize, seen: usize) -> Result<(), Failure> {
        let text = if kept > self.max_objects {
            format!("the listing has more than {}, more than any repository has", counted(self.max_objects, "object"))
        } else if seen > 2 * kept + MAX_STRAYS {
            format!("of {} in the listing only {kept} {} of objects, and it goes on", counted(seen, "name"), are(kept))
        } else {
            return Ok(());
        };
        Err(Failure::lasting(Cause::Other, text))
    }
}

impl RemoteStore {
    /// Lists the objects of a kind; a page or folder that fails fails it, and so does an object that an earlier listing
    /// had, that this store has not removed, and that is there all the same.
    pub(super) async fn listed(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        let mut tries = Tries::new();
        let folder = format!("{}/", kind.folder());
        let task = Task { verb: "list", name: &folder };
        loop {
            let mut listed =
                if self.has_folders() { self.in_folders(kind).await? } else { self.below_prefix(kind).await? };
            listed.sort_unstable_by_key(|listed| listed.id);
            listed.dedup_by_key(|listed| listed.id);
            let lacking = self.shown.lock().lacking(kind, &listed, MAX_LOOKED_FOR);
            let looked_for = stream::iter(lacking).map(|object| async move {
                let path = object.path();
                let found = self.found(Task { verb: "look for", name: &path }, &path).await?;
                Ok::<_, Error>(found.map(|_| object))
            });
            let found: Vec<_> = looked_for.buffer_unordered(self.connections).try_collect().await?;
            let Some(object) = found.into_iter().flatten().next() else {
                self.shown.lock().note(kind, &listed);
                return Ok(listed);
            };
            let text = format!("the listing lacks {object}, which is there");
            let failure = Failure::passing(Cause::Busy, text);
            if !self.goes_on(&failure, &mut tries).await {
                return Err(tries.explain(&self.place, task, &failure));
            }
        }
    }

    async fn below_prefix(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        let prefix = format!("{}/", kind.folder());
        let task = Task { verb: "list", name: &prefix };
        let bounds = Bounds { max_objects: kind.max_objects(), is_sample: false };
        self.retried(task, self.terms_of_listing(kind), async |session| {
            session.list(&prefix, kind == ObjectKind::Pack, &bounds, &|item| listed_of(kind, &item)).await
        })
        .await
    }

    async fn in_folders(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        let folder = format!("{}/", kind.folder());
        // The folder of marks is made with the first one; any other that is missing is a fault.
        if kind != ObjectKind::Pack {
            let may_be_missing = kind == ObjectKind::Mark;
            return self.folder(kind, &folder, may_be_missing, &|item| listed_of(kind, &item)).await;
        }
        let shards = self.folder(kind, &folder, false, &|item| shard_of(&item)).await?;
        let listings = stream::iter(shards)
            .map(|shard| async move { self.folder(kind, &shard, true, &|item| listed_of(kind, &item)).await });
        let listed: Vec<Vec<Listed>> = listings.buffer_unordered(self.connections).try_collect().await?;
        Ok(listed.into_iter().flatten().collect())
    }

    /// Lists one folder of a kind, as far as `keep` takes what is in it.
    pub(super) async fn folder<T>(
        &self,
        kind: ObjectKind,
        folder: &str,
        may_be_missing: bool,
        keep: &(dyn Fn(Item) -> Option<T> + Sync),
    ) -> Result<Vec<T>> {
        let task = Task { verb: "list", name: folder };
        let bounds = Bounds { max_objects: kind.max_objects(), is_sample: false };
        self.retried(task, self.terms_of_listing(kind), async |session| {
            match session.list(folder, false, &bounds, keep).await {
                Err(failure) if may_be_missing && failure.cause == Cause::NotFound => Ok(Vec::new()),
                items => items,
            }
        })
        .await
    }

    fn terms_of_listing(&self, kind: ObjectKind) -> Terms {
        let (max_body_bytes, max_time) = match kind {
            ObjectKind::Key => (MAX_KEYS_BYTES, Some(MAX_KEYS_TIME)),
            // All of a folder is one page.
            _ if self.has_folders() => (MAX_ANSWER_BYTES, None),
            _ => (MAX_PAGE_BYTES, None),
        };
        Terms { max_body_bytes, max_time, ..Terms::of(Purpose::List) }
    }

    /// Asks for listings until they show what was put (true) and no longer what was removed (false).
    pub(super) async fn wait_for_listings(&self, unlisted: &BTreeMap<Object, bool>) -> Result<()> {
        let start = Instant::now();
        let mut pause = self.policy.first_pause;
        let kinds = ObjectKind::ALL.into_iter().filter(|kind| unlisted.keys().any(|object| is_of(*kind, object)));
        for kind in kinds {
            loop {
                let listed = self.listed(kind).await?;
                let listed: BTreeSet<Object> = listed.into_iter().map(|listed| kind.object(listed.id)).collect();
                let is_late = |(object, is_put): &(&Object, &bool)| {
                    // What was undone since, or seen by another call, is not waited for.
                    is_of(kind, object)
                        && listed.contains(*object) != **is_put
                        && self.unlisted.lock().get(*object) == Some(*is_put)
                };
                let Some((object, is_put)) = unlisted.iter().find(is_late) else { break };
                if start.elapsed() >= self.policy.max_lag {
                    let state = if *is_put { "does not show yet" } else { "still shows" };
                    return Err(Error::new(
                        ErrorKind::Io,
                        format!(
                            "The listing of {}/ at {} {state} {object} after {} s: the server's listings lag far \
                             behind, try again later",
                            kind.folder(),
                            self.place,
                            start.elapsed().as_secs()
                        ),
                    ));
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_LOOK_PAUSE);
            }
        }
        Ok(())
    }
}

fn is_of(kind: ObjectKind, object: &Object) -> bool {
    object.path().starts_with(kind.folder())
}

/// Takes an object. Names that are no ids are leftovers of writers, or strays: never objects.
fn listed_of(kind: ObjectKind, item: &Item) -> Option<Listed> {
    let id = id_of(kind, &item.path).filter(|_| !item.is_folder)?;
    Some(Listed { id, len_bytes: item.len_bytes })
}

/// Takes one of the 256 folders of packs.
pub(super) fn shard_of(item: &Item) -> Option<String> {
    let name = item.path.trim_end_matches('/').rsplit('/').next()?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (item.is_folder && name.len() == 2 && name.bytes().all(is_digit)).then(|| format!("packs/{name}/"))
}
