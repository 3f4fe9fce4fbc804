//! What servers with folders need besides: the folders themselves, and the removal of what interrupted puts left.

use super::list::shard_of;
use super::{RemoteStore, id_of};
use crate::error::Result;
use crate::remote::{Attempt, Bounds, Cause, Failure, Item, Purpose, RequestSpec, TEMPORARY, Task};
use crate::store::ObjectKind;
use futures::{StreamExt, TryStreamExt, stream};

/// One that is older was left by a writer that died.
const MAX_PUT_AGE_SECS: i64 = 24 * 60 * 60;

impl RemoteStore {
    /// Makes the repository's folder and one for each kind; those of packs are made with the first pack in each.
    pub(super) async fn make_folders(&self) -> Result<()> {
        for folder in ObjectKind::ALL.map(|kind| format!("{}/", kind.folder())) {
            let task = Task { verb: "make the folder", name: &folder };
            let make = async |attempt: &Attempt| attempt.create_folder(&folder).await;
            self.client.retried(task, RequestSpec::of(Purpose::Other), make).await?;
        }
        if self.client.is_sftp() { self.require_folders().await } else { Ok(()) }
    }

    /// Fails where the folders were not made: OpenDAL takes every refusal of SFTP's for a folder that is there.
    async fn require_folders(&self) -> Result<()> {
        let folder = format!("{}/", ObjectKind::Key.folder());
        let task = Task { verb: "make the folder", name: &folder };
        let bounds = Bounds::sample(1);
        let spec = RequestSpec::of(Purpose::List);
        self.client
            .retried(task, spec, async |attempt| match attempt.list(&folder, false, &bounds, &Some).await {
                Err(failure) if failure.cause == Cause::NotFound => {
                    attempt.probe().await?;
                    Err(Failure::lasting(Cause::Other, "the server has not made it, and does not say why"))
                }
                listed => listed.map(drop),
            })
            .await
    }

    /// Removes what puts that were interrupted more than a day ago have left; returns how much.
    pub(super) async fn sweep_folders(&self) -> Result<u64> {
        let now = jiff::Timestamp::now().as_second();
        let mut folders = Vec::new();
        for kind in ObjectKind::ALL {
            let folder = format!("{}/", kind.folder());
            if kind == ObjectKind::Pack {
                let shards = self.folder(kind, &folder, true, &|item| shard_of(&item)).await?;
                folders.extend(shards.into_iter().map(|shard| (kind, shard)));
            }
            folders.push((kind, folder));
        }
        let is_left = |item: &Item| {
            let is_old = item.modified_secs.is_some_and(|at| now - at > MAX_PUT_AGE_SECS);
            !item.is_folder && is_old && name_of(item).starts_with(TEMPORARY)
        };
        // Of objects nothing is taken but that they are some.
        let take = &|kind, item: Item| match is_left(&item) {
            true => Some(Some(name_of(&item).to_owned())),
            false => id_of(kind, &item.path).map(|_| None),
        };
        let swept = stream::iter(folders).map(|(kind, folder)| async move {
            let seen = self.folder(kind, &folder, true, &|item| take(kind, item)).await?;
            let left: Vec<String> = seen.into_iter().flatten().collect();
            for name in &left {
                let path = format!("{folder}{name}");
                self.client.removed(&path).await?;
            }
            Ok(left.len() as u64)
        });
        swept.buffer_unordered(self.client.connections()).try_fold(0, |sum, one| async move { Ok(sum + one) }).await
    }
}

fn name_of(item: &Item) -> &str {
    item.path.rsplit('/').next().unwrap_or_default()
}
