//! Listing objects: by prefix where names are all there is, folder by folder elsewhere.

use super::explain::Task;
use super::failure::Cause;
use super::http::Purpose;
use super::service::Item;
use super::{RemoteStore, Terms, id_of};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Listed, Object, ObjectKind};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// The longest pause between two looks at a listing that lags behind.
const MAX_LOOK_PAUSE: Duration = Duration::from_secs(5);

impl RemoteStore {
    /// Lists the objects of a kind; a page or folder that fails fails it.
    pub(super) async fn listed(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        let items = if self.has_folders() { self.in_folders(kind).await? } else { self.below_prefix(kind).await? };
        let mut seen = HashSet::with_capacity(items.len());
        let objects = items.iter().filter(|item| !item.is_folder).filter_map(|item| {
            // Names that are no ids are leftovers of writers, or strays: never objects.
            let id = id_of(kind, &item.path)?;
            seen.insert(id).then_some(Listed { id, len_bytes: item.len_bytes })
        });
        Ok(objects.collect())
    }

    async fn below_prefix(&self, kind: ObjectKind) -> Result<Vec<Item>> {
        let prefix = format!("{}/", kind.folder());
        let task = Task { verb: "list", name: &prefix };
        self.retried(task, Terms::of(Purpose::List), async |session| {
            session.list(&prefix, kind == ObjectKind::Pack, usize::MAX).await
        })
        .await
    }

    async fn in_folders(&self, kind: ObjectKind) -> Result<Vec<Item>> {
        let folder = format!("{}/", kind.folder());
        // The folder of marks is made with the first one; any other that is missing is a fault.
        let items = self.folder(&folder, kind == ObjectKind::Mark).await?;
        if kind != ObjectKind::Pack {
            return Ok(items);
        }
        let shards: Vec<String> =
            items.iter().filter(|item| item.is_folder).filter_map(|item| shard_of(&item.path)).collect();
        let listings = stream::iter(shards).map(|shard| async move { self.folder(&shard, true).await });
        let listed: Vec<Vec<Item>> = listings.buffer_unordered(self.connections).try_collect().await?;
        Ok(listed.into_iter().flatten().collect())
    }

    /// Lists one folder.
    pub(super) async fn folder(&self, folder: &str, may_be_missing: bool) -> Result<Vec<Item>> {
        let task = Task { verb: "list", name: folder };
        self.retried(task, Terms::of(Purpose::List), async |session| {
            match session.list(folder, false, usize::MAX).await {
                Err(failure) if may_be_missing && failure.cause == Cause::NotFound => Ok(Vec::new()),
                items => items,
            }
        })
        .await
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

/// Returns the path of one of the 256 folders of packs.
fn shard_of(path: &str) -> Option<String> {
    let name = path.trim_end_matches('/').rsplit('/').next()?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (name.len() == 2 && name.bytes().all(is_digit)).then(|| format!("packs/{name}/"))
}
