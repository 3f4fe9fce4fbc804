//! Storing an object, whole or not at all, at servers that may fail at any point of it.
//!
//! An attempt that certainly stored nothing is made again as it is. After one that may have stored something the object is
//! looked at: there as it should be is a success, anything else [`ErrorKind::Uncertain`], because the lost request may
//! still arrive: whoever asked stores other bytes under another name. Where there are folders, the bytes go under
//! a temporary name first, so that only the change of the name is ever uncertain.

use super::RemoteStore;
use crate::error::{Error, ErrorKind, Result};
use crate::id::to_hex;
use crate::place::{Remote, Service};
use crate::remote::{
    Attempt, Attempts, Cause, Checksums, Failure, ObjectMetadata, Purpose, RequestSpec, Task, temporary_name,
};
use crate::store::Object;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use std::sync::atomic::Ordering::Relaxed;

/// Looks at an object after a lost reply: a server that has just failed gets a little time.
const MAX_LOOKS: u32 = 4;

/// What is stored, and what a server must say of it afterwards.
struct Upload {
    object: Object,
    path: String,
    bytes: Bytes,
    checksums: Checksums,
}

impl Upload {
    fn new(object: Object, bytes: Bytes, with_sha1: bool) -> Self {
        let sha1 = || aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &bytes);
        let sha1_hex = if with_sha1 { to_hex(sha1().as_ref()) } else { String::new() };
        let checksums = Checksums { md5: Md5::digest(&bytes).into(), sha1_hex };
        Upload { object, path: object.path(), bytes, checksums }
    }

    fn spec(&self) -> RequestSpec {
        let len_bytes = self.bytes.len() as u64;
        RequestSpec { len_bytes, checksums: Some(self.checksums.clone()), ..RequestSpec::of(Purpose::Put) }
    }

    /// Returns whether what a server tells is of these bytes.
    fn fits(&self, metadata: ObjectMetadata) -> bool {
        metadata.len_bytes == Some(self.bytes.len() as u64) && metadata.md5.is_none_or(|md5| md5 == self.checksums.md5)
    }
}

impl RemoteStore {
    pub(super) async fn put_object(&self, object: Object, bytes: Bytes) -> Result<()> {
        let upload = Upload::new(object, bytes, self.is_b2());
        if object == Object::Config {
            return self.put_config(&upload).await;
        }
        if self.client.has_folders() { self.put_and_rename(&upload).await } else { self.put_in_place(&upload).await }
    }

    fn is_b2(&self) -> bool {
        matches!(self.client.place(), Remote::Bucket { service: Service::B2, .. })
    }

    /// Stores the one object whose name does not tell its bytes: never over another, and read back.
    async fn put_config(&self, upload: &Upload) -> Result<()> {
        let exists =
            || Error::new(ErrorKind::Exists, format!("There is a {} at {} already", upload.path, self.client.place()));
        let task = Task { verb: "look for", name: &upload.path };
        if self.client.found(task, &upload.path).await?.is_some() {
            return Err(exists());
        }
        let stored = match self.client.has_folders() {
            true => self.put_and_rename(upload).await,
            false => self.put_in_place(upload).await,
        };
        // What is read back decides, because another one may have been stored at the same time.
        if let Err(error) = &stored
            && !matches!(error.kind(), ErrorKind::Exists | ErrorKind::Uncertain)
        {
            return stored;
        }
        let found = self.client.whole(&upload.path, (upload.bytes.len() as u64).max(64 << 10)).await;
        match (found, stored) {
            (Ok(found), _) if found == upload.bytes => Ok(()),
            (Ok(_), _) => Err(exists()),
            (Err(_), Err(error)) => Err(error),
            (Err(error), Ok(())) => Err(error),
        }
    }

    /// Stores under the final name: objects of these services appear whole or not at all.
    async fn put_in_place(&self, upload: &Upload) -> Result<()> {
        let task = Task { verb: "store", name: &upload.path };
        let mut attempts = Attempts::new();
        loop {
            let work =
                self.client.once(upload.spec(), async |attempt| attempt.put(&upload.path, upload.bytes.clone()).await);
            match work.await {
                Ok(Some(md5)) if md5 != upload.checksums.md5 => {
                    let metadata = ObjectMetadata { len_bytes: Some(upload.bytes.len() as u64), md5: Some(md5) };
                    return self.judge(upload, metadata).await;
                }
                // To look costs money at B2, whose answer tells what it holds.
                Ok(Some(_)) if self.is_b2() => return Ok(()),
                Ok(_) => return self.verify(upload, None).await,
                Err(failure) if failure.may_have_happened => {
                    return self.verify(upload, Some((failure, &attempts))).await;
                }
                Err(failure) => {
                    if !self.client.goes_on(&failure, &mut attempts).await {
                        return Err(self.client.explain(task, &failure, &attempts));
                    }
                }
            }
        }
    }

    /// Looks whether an object is there as it should be, after a put that succeeded or was lost.
    async fn verify(&self, upload: &Upload, lost: Option<(Failure, &Attempts)>) -> Result<()> {
        let mut looks = Attempts::new();
        let last = loop {
            let stat = async |attempt: &Attempt| attempt.stat(&upload.path).await;
            match self.client.once(RequestSpec::of(Purpose::Stat), stat).await {
                Ok(metadata) => return self.judge(upload, metadata).await,
                // A request that was lost may arrive later: its name is given up, not waited for.
                Err(failure) if failure.cause == Cause::NotFound && lost.is_some() => break failure,
                Err(failure) if failure.is_temporary || failure.is_renewed || failure.cause == Cause::NotFound => {
                    let again = Failure { is_temporary: true, ..failure.clone() };
                    if looks.count >= MAX_LOOKS || !self.client.goes_on(&again, &mut looks).await {
                        break failure;
                    }
                }
                Err(failure) => break failure,
            }
        };
        let task = Task { verb: "tell whether the server has stored", name: &upload.path };
        let (failure, attempts) = lost.unwrap_or((last, &looks));
        let cause = self.client.explain(task, &failure, attempts);
        Err(Error::new(ErrorKind::Uncertain, cause.chain()))
    }

    /// Judges what a server tells of an object that was stored. A checksum that is not that of the bytes may be none of
    /// them: some servers encrypt and tell another (Huawei OBS, "PutObject"; Amazon S3 API, "Object"). So the bytes are
    /// read back, and where they are right no checksum of this server is believed any more; its length is.
    async fn judge(&self, upload: &Upload, metadata: ObjectMetadata) -> Result<()> {
        if upload.fits(metadata) {
            return Ok(());
        }
        let len_bytes = upload.bytes.len() as u64;
        if metadata.len_bytes != Some(len_bytes) {
            return Err(self.garbled(upload).await);
        }
        if self.has_opaque_checksums.load(Relaxed) {
            return Ok(());
        }
        match self.client.whole(&upload.path, len_bytes).await {
            Ok(found) if found == upload.bytes => {
                self.has_opaque_checksums.store(true, Relaxed);
                tracing::info!("{}: what the server tells as checksums are none of the bytes", self.client.place());
                Ok(())
            }
            Ok(_) => Err(self.garbled(upload).await),
            Err(error) if error.kind() == ErrorKind::Damaged => Err(self.garbled(upload).await),
            Err(error) => Err(Error::new(
                ErrorKind::Uncertain,
                format!(
                    "{} tells another checksum of {} than was sent, and it cannot be read back",
                    self.client.place(),
                    upload.path
                ),
            )
            .because(error)),
        }
    }

    /// Removes an object the server holds other bytes of; the configuration may be somebody else's.
    async fn garbled(&self, upload: &Upload) -> Error {
        let removal = async |attempt: &Attempt| attempt.delete(&upload.path).await;
        let removed = match upload.object {
            Object::Config => "it is left alone",
            _ if self.client.once(RequestSpec::of(Purpose::Delete), removal).await.is_ok() => "it was removed",
            _ => "it could not be removed",
        };
        let message = format!("{} holds other bytes of {} than were sent: {removed}", self.client.place(), upload.path);
        Error::new(ErrorKind::Uncertain, message)
    }

    /// Stores under a temporary name, compares the length, and changes the name.
    async fn put_and_rename(&self, upload: &Upload) -> Result<()> {
        let task = Task { verb: "store", name: &upload.path };
        let folder = upload.path.rfind('/').map_or("", |end| &upload.path[..=end]);
        let mut attempts = Attempts::new();
        let temporary = loop {
            let temporary = format!("{folder}{}", temporary_name());
            let Err(failure) = self.put_temporary(upload, folder, &temporary).await else { break temporary };
            // A part of it may be there even where the server says no: a disk that is full keeps what it took.
            if !matches!(failure.cause, Cause::Unreachable | Cause::Tls | Cause::HostKey | Cause::NoFolder) {
                self.discard(&temporary).await;
            }
            // Nothing of this is under the object's name: whatever happened, another attempt does no harm.
            if !self.client.goes_on(&failure, &mut attempts).await {
                return Err(self.client.explain(task, &failure, &attempts));
            }
        };
        let mut was_renamed = false;
        loop {
            let rename = async |attempt: &Attempt| attempt.rename(&temporary, &upload.path).await;
            let Err(failure) = self.client.once(RequestSpec::of(Purpose::Other), rename).await else { return Ok(()) };
            // One that was refused before may have been made all the same.
            let is_gone = was_renamed && failure.cause == Cause::NotFound;
            if failure.may_have_happened || failure.cause == Cause::Exists || is_gone {
                let verified = self.verify(upload, Some((failure.clone(), &attempts))).await;
                // Gone, it cannot be given the name later by a request that was delayed on its way.
                self.discard(&temporary).await;
                return match verified {
                    Err(_) if failure.cause == Cause::Exists => Err(self.client.explain(task, &failure, &attempts)),
                    result => result,
                };
            }
            if !self.client.goes_on(&failure, &mut attempts).await {
                self.discard(&temporary).await;
                return Err(self.client.explain(task, &failure, &attempts));
            }
            was_renamed = true;
        }
    }

    async fn put_temporary(&self, upload: &Upload, folder: &str, temporary: &str) -> Result<(), Failure> {
        let put = async |attempt: &Attempt| attempt.put(temporary, upload.bytes.clone()).await;
        let stored = match self.client.once(upload.spec(), put).await {
            Err(failure) if matches!(failure.cause, Cause::NoFolder | Cause::NotFound) && !folder.is_empty() => {
                let make = async |attempt: &Attempt| attempt.create_folder(folder).await;
                self.client.once(RequestSpec::of(Purpose::Other), make).await?;
                self.client.once(upload.spec(), put).await
            }
            result => result,
        };
        stored?;
        let stat = async |attempt: &Attempt| attempt.stat(temporary).await;
        let metadata = self.client.once(RequestSpec::of(Purpose::Stat), stat).await?;
        if !upload.fits(metadata) {
            return Err(Failure::open(Cause::Garbled, "the server holds other bytes than were sent"));
        }
        Ok(())
    }

    /// Removes what an attempt left under a temporary name; what cannot be removed is swept up later.
    async fn discard(&self, temporary: &str) {
        let removal = async |attempt: &Attempt| attempt.delete(temporary).await;
        if let Err(failure) = self.client.once(RequestSpec::of(Purpose::Delete), removal).await {
            tracing::debug!("{}: {temporary} is left: {}", self.client.place(), failure.text);
        }
    }
}
