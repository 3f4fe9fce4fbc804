//! Storing an object, whole or not at all, at servers that may fail at any point of it.
//!
//! A try that certainly stored nothing is made again as it is. After one that may have stored something the object is
//! looked at: there as it should be is a success, anything else [`ErrorKind::Uncertain`], because the lost request may
//! still arrive: whoever asked stores other bytes under another name. Where there are folders, the bytes go under
//! a temporary name first, so that only the change of the name is ever uncertain.

use super::explain::Task;
use super::failure::{Cause, Failure};
use super::folders::temporary_name;
use super::http::{Digest, Purpose};
use super::service::{Session, Told};
use super::{RemoteStore, Terms, Tries};
use crate::error::{Error, ErrorKind, Result};
use crate::id::to_hex;
use crate::store::Object;
use crate::store::place::{Remote, Service};
use bytes::Bytes;
use md5::{Digest as _, Md5};
use std::sync::atomic::Ordering::Relaxed;

/// Looks at an object after a lost reply: a server that has just failed gets a little time.
const MAX_LOOKS: u32 = 4;

/// What is stored, and what a server must say of it afterwards.
struct Parcel {
    object: Object,
    path: String,
    bytes: Bytes,
    digest: Digest,
}

impl Parcel {
    fn new(object: Object, bytes: Bytes, with_sha1: bool) -> Self {
        let sha1 = || aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &bytes);
        let sha1_hex = if with_sha1 { to_hex(sha1().as_ref()) } else { String::new() };
        let digest = Digest { md5: Md5::digest(&bytes).into(), sha1_hex };
        Parcel { object, path: object.path(), bytes, digest }
    }

    fn terms(&self) -> Terms {
        let len_bytes = self.bytes.len() as u64;
        Terms { len_bytes, digest: Some(self.digest.clone()), ..Terms::of(Purpose::Put) }
    }

    /// Returns whether what a server tells is of these bytes.
    fn fits(&self, told: Told) -> bool {
        told.len_bytes == Some(self.bytes.len() as u64) && told.md5.is_none_or(|md5| md5 == self.digest.md5)
    }
}

impl RemoteStore {
    pub(super) async fn put_object(&self, object: Object, bytes: Bytes) -> Result<()> {
        let parcel = Parcel::new(object, bytes, self.is_b2());
        if object == Object::Config {
            return self.put_config(&parcel).await;
        }
        if self.has_folders() { self.put_and_rename(&parcel).await } else { self.put_in_place(&parcel).await }
    }

    fn is_b2(&self) -> bool {
        matches!(self.place, Remote::Bucket { service: Service::B2, .. })
    }

    /// Stores the one object whose name does not tell its bytes: never over another, and read back.
    async fn put_config(&self, parcel: &Parcel) -> Result<()> {
        let exists = || Error::new(ErrorKind::Exists, format!("There is a {} at {} already", parcel.path, self.place));
        let task = Task { verb: "look for", name: &parcel.path };
        if self.found(task, &parcel.path).await?.is_some() {
            return Err(exists());
        }
        let stored = match self.has_folders() {
            true => self.put_and_rename(parcel).await,
            false => self.put_in_place(parcel).await,
        };
        // What is read back decides, because another one may have been stored at the same time.
        if let Err(error) = &stored
            && !matches!(error.kind(), ErrorKind::Exists | ErrorKind::Uncertain)
        {
            return stored;
        }
        let found = self.read_all(Object::Config, (parcel.bytes.len() as u64).max(64 << 10)).await;
        match (found, stored) {
            (Ok(found), _) if found == parcel.bytes => Ok(()),
            (Ok(_), _) => Err(exists()),
            (Err(_), Err(error)) => Err(error),
            (Err(error), Ok(())) => Err(error),
        }
    }

    /// Stores under the final name: objects of these services appear whole or not at all.
    async fn put_in_place(&self, parcel: &Parcel) -> Result<()> {
        let task = Task { verb: "store", name: &parcel.path };
        let mut tries = Tries::new();
        loop {
            let work = self.once(parcel.terms(), async |session| session.put(&parcel.path, parcel.bytes.clone()).await);
            match work.await {
                Ok(Some(md5)) if md5 != parcel.digest.md5 => {
                    let told = Told { len_bytes: Some(parcel.bytes.len() as u64), md5: Some(md5) };
                    return self.judge(parcel, told).await;
                }
                // To look costs money at B2, whose answer tells what it holds.
                Ok(Some(_)) if self.is_b2() => return Ok(()),
                Ok(_) => return self.verify(parcel, None).await,
                Err(failure) if failure.may_have_happened => {
                    return self.verify(parcel, Some((failure, &tries))).await;
                }
                Err(failure) => {
                    if !self.goes_on(&failure, &mut tries).await {
                        return Err(tries.explain(&self.place, task, &failure));
                    }
                }
            }
        }
    }

    /// Looks whether an object is there as it should be, after a put that succeeded or was lost.
    async fn verify(&self, parcel: &Parcel, lost: Option<(Failure, &Tries)>) -> Result<()> {
        let mut looks = Tries::new();
        let last = loop {
            let stat = async |session: &Session| session.stat(&parcel.path).await;
            match self.once(Terms::of(Purpose::Stat), stat).await {
                Ok(told) => return self.judge(parcel, told).await,
                // A request that was lost may arrive later: its name is given up, not waited for.
                Err(failure) if failure.cause == Cause::NotFound && lost.is_some() => break failure,
                Err(failure) if failure.is_temporary || failure.is_renewed || failure.cause == Cause::NotFound => {
                    let again = Failure { is_temporary: true, ..failure.clone() };
                    if looks.count >= MAX_LOOKS || !self.goes_on(&again, &mut looks).await {
                        break failure;
                    }
                }
                Err(failure) => break failure,
            }
        };
        let task = Task { verb: "tell whether the server has stored", name: &parcel.path };
        let (failure, tries) = lost.unwrap_or((last, &looks));
        let cause = tries.explain(&self.place, task, &failure);
        Err(Error::new(ErrorKind::Uncertain, cause.chain()))
    }

    /// Judges what a server tells of an object that was stored. A checksum that is not that of the bytes may be none of
    /// them: some servers encrypt and tell another (Huawei OBS, "PutObject"; Amazon S3 API, "Object"). So the bytes are
    /// read back, and where they are right no checksum of this server is believed any more; its length is.
    async fn judge(&self, parcel: &Parcel, told: Told) -> Result<()> {
        if parcel.fits(told) {
            return Ok(());
        }
        let len_bytes = parcel.bytes.len() as u64;
        if told.len_bytes != Some(len_bytes) {
            return Err(self.garbled(parcel).await);
        }
        if self.has_opaque_checksums.load(Relaxed) {
            return Ok(());
        }
        match self.read_all(parcel.object, len_bytes).await {
            Ok(found) if found == parcel.bytes => {
                self.has_opaque_checksums.store(true, Relaxed);
                tracing::info!("{}: what the server tells as checksums are none of the bytes", self.place);
                Ok(())
            }
            Ok(_) => Err(self.garbled(parcel).await),
            Err(error) if error.kind() == ErrorKind::Damaged => Err(self.garbled(parcel).await),
            Err(error) => Err(Error::new(
                ErrorKind::Uncertain,
                format!(
                    "{} tells another checksum of {} than was sent, and it cannot be read back",
                    self.place, parcel.path
                ),
            )
            .because(error)),
        }
    }

    /// Removes an object the server holds other bytes of; the configuration may be somebody else's.
    async fn garbled(&self, parcel: &Parcel) -> Error {
        let removal = async |session: &Session| session.delete(&parcel.path).await;
        let removed = match parcel.object {
            Object::Config => "it is left alone",
            _ if self.once(Terms::of(Purpose::Delete), removal).await.is_ok() => "it was removed",
            _ => "it could not be removed",
        };
        let message = format!("{} holds other bytes of {} than were sent: {removed}", self.place, parcel.path);
        Error::new(ErrorKind::Uncertain, message)
    }

    /// Stores under a temporary name, compares the length, and changes the name.
    async fn put_and_rename(&self, parcel: &Parcel) -> Result<()> {
        let task = Task { verb: "store", name: &parcel.path };
        let folder = parcel.path.rfind('/').map_or("", |end| &parcel.path[..=end]);
        let mut tries = Tries::new();
        let temporary = loop {
            let temporary = format!("{folder}{}", temporary_name());
            let Err(failure) = self.put_temporary(parcel, folder, &temporary).await else { break temporary };
            // A part of it may be there even where the server says no: a disk that is full keeps what it took.
            if !matches!(failure.cause, Cause::Unreachable | Cause::Tls | Cause::HostKey | Cause::NoFolder) {
                self.discard(&temporary).await;
            }
            // Nothing of this is under the object's name: whatever happened, another try does no harm.
            if !self.goes_on(&failure, &mut tries).await {
                return Err(tries.explain(&self.place, task, &failure));
            }
        };
        let mut was_renamed = false;
        loop {
            let rename = async |session: &Session| session.rename(&temporary, &parcel.path).await;
            let Err(failure) = self.once(Terms::of(Purpose::Other), rename).await else { return Ok(()) };
            // One that was refused before may have been made all the same.
            let is_gone = was_renamed && failure.cause == Cause::NotFound;
            if failure.may_have_happened || failure.cause == Cause::Exists || is_gone {
                let verified = self.verify(parcel, Some((failure.clone(), &tries))).await;
                // Gone, it cannot be given the name later by a request that was delayed on its way.
                self.discard(&temporary).await;
                return match verified {
                    Err(_) if failure.cause == Cause::Exists => Err(tries.explain(&self.place, task, &failure)),
                    result => result,
                };
            }
            if !self.goes_on(&failure, &mut tries).await {
                self.discard(&temporary).await;
                return Err(tries.explain(&self.place, task, &failure));
            }
            was_renamed = true;
        }
    }

    async fn put_temporary(&self, parcel: &Parcel, folder: &str, temporary: &str) -> Result<(), Failure> {
        let put = async |session: &Session| session.put(temporary, parcel.bytes.clone()).await;
        let stored = match self.once(parcel.terms(), put).await {
            Err(failure) if matches!(failure.cause, Cause::NoFolder | Cause::NotFound) && !folder.is_empty() => {
                let make = async |session: &Session| session.create_folder(folder).await;
                self.once(Terms::of(Purpose::Other), make).await?;
                self.once(parcel.terms(), put).await
            }
            result => result,
        };
        stored?;
        let stat = async |session: &Session| session.stat(temporary).await;
        let told = self.once(Terms::of(Purpose::Stat), stat).await?;
        if !parcel.fits(told) {
            return Err(Failure::open(Cause::Garbled, "the server holds other bytes than were sent"));
        }
        Ok(())
    }

    /// Removes what a try left under a temporary name; what cannot be removed is swept up later.
    async fn discard(&self, temporary: &str) {
        let removal = async |session: &Session| session.delete(temporary).await;
        if let Err(failure) = self.once(Terms::of(Purpose::Delete), removal).await {
            tracing::debug!("{}: {temporary} is left: {}", self.place, failure.text);
        }
    }
}
