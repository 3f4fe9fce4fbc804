//! Listing objects: by prefix where names are all there is, folder by folder elsewhere.

use super::{RemoteStore, id_of};
use crate::error::{Error, ErrorKind, Result};
use crate::remote::{Attempts, Bounds, Cause, Failure, Item, Task};
use crate::store::{ListedObject, Object, ObjectKind};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// The longest pause between two looks at a listing that lags behind.
const MAX_LOOK_PAUSE: Duration = Duration::from_secs(5);

/// No listing of key slots, which are read before anything is known of a repository, is longer or takes longer.
const MAX_KEYS_BYTES: u64 = 4 << 20;
const MAX_KEYS_TIME: Duration = Duration::from_secs(30);
/// Of objects that a listing lacks and that were there before, so many are looked for one by one.
const MAX_LOOKED_FOR: usize = 64;

impl RemoteStore {
    /// Lists the objects of a kind; a page or folder that fails fails it, and so does an object that an earlier listing
    /// had, that this store has not removed, and that is there all the same.
    pub(super) async fn listed(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        let mut attempts = Attempts::new();
        let folder = format!("{}/", kind.folder());
        let task = Task { verb: "list", name: &folder };
        loop {
            let mut listed =
                if self.client.has_folders() { self.in_folders(kind).await? } else { self.below_prefix(kind).await? };
            listed.sort_unstable_by_key(|listed| listed.id);
            listed.dedup_by_key(|listed| listed.id);
            let lacking = self.shown.lock().lacking(kind, &listed, MAX_LOOKED_FOR);
            let looked_for = stream::iter(lacking).map(|object| async move {
                let path = object.path();
                let found = self.client.found(Task { verb: "look for", name: &path }, &path).await?;
                Ok::<_, Error>(found.map(|_| object))
            });
            let found: Vec<_> = looked_for.buffer_unordered(self.client.connections()).try_collect().await?;
            let Some(object) = found.into_iter().flatten().next() else {
                self.shown.lock().note(kind, &listed);
                return Ok(listed);
            };
            let text = format!("the listing lacks {object}, which is there");
            let failure = Failure::passing(Cause::Busy, text);
            if !self.client.goes_on(&failure, &mut attempts).await {
                return Err(self.client.explain(task, &failure, &attempts));
            }
        }
    }

    async fn below_prefix(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        let prefix = format!("{}/", kind.folder());
        let is_deep = kind == ObjectKind::Pack;
        self.client.listed(&prefix, is_deep, &bounds_of(kind), &|item| listed_of(kind, &item)).await
    }

    async fn in_folders(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        let folder = format!("{}/", kind.folder());
        // The folder of marks is made with the first one; any other that is missing is a fault.
        if kind != ObjectKind::Pack {
            let may_be_missing = kind == ObjectKind::Mark;
            return self.folder(kind, &folder, may_be_missing, &|item| listed_of(kind, &item)).await;
        }
        let shards = self.folder(kind, &folder, false, &|item| shard_of(&item)).await?;
        let listings = stream::iter(shards)
            .map(|shard| async move { self.folder(kind, &shard, true, &|item| listed_of(kind, &item)).await });
        let listed: Vec<Vec<ListedObject>> = listings.buffer_unordered(self.client.connections()).try_collect().await?;
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
        match may_be_missing {
            true => self.client.listed_or_none(folder, &bounds_of(kind), keep).await,
            false => self.client.listed(folder, false, &bounds_of(kind), keep).await,
        }
    }

    /// Asks for listings until they show what was put (true) and no longer what was removed (false).
    pub(super) async fn wait_for_listings(&self, unlisted: &BTreeMap<Object, bool>) -> Result<()> {
        let start = Instant::now();
        let mut pause = self.client.policy().first_pause;
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
                if start.elapsed() >= self.client.policy().max_lag {
                    let state = if *is_put { "does not show yet" } else { "still shows" };
                    return Err(Error::new(
                        ErrorKind::Io,
                        format!(
                            "The listing of {}/ at {} {state} {object} after {} s: the server's listings lag far \
                             behind, try again later",
                            kind.folder(),
                            self.client.place(),
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

fn bounds_of(kind: ObjectKind) -> Bounds {
    let bounds = Bounds::whole(kind.max_objects(), "repository");
    match kind {
        ObjectKind::Key => Bounds { max_page_bytes: Some(MAX_KEYS_BYTES), max_time: Some(MAX_KEYS_TIME), ..bounds },
        _ => bounds,
    }
}

fn is_of(kind: ObjectKind, object: &Object) -> bool {
    object.path().starts_with(kind.folder())
}

/// Takes an object. Names that are no ids are leftovers of writers, or strays: never objects.
fn listed_of(kind: ObjectKind, item: &Item) -> Option<ListedObject> {
    let id = id_of(kind, &item.path).filter(|_| !item.is_folder)?;
    Some(ListedObject { id, len_bytes: item.len_bytes })
}

/// Takes one of the 256 folders of packs.
pub(super) fn shard_of(item: &Item) -> Option<String> {
    let name = item.path.trim_end_matches('/').rsplit('/').next()?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (item.is_folder && name.len() == 2 && name.bytes().all(is_digit)).then(|| format!("packs/{name}/"))
}
