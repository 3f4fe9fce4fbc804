//! What a file of this room says beside its head: sealed with the repository's keys.

use super::file::Record;
use crate::crypto::keys::Keys;
use crate::crypto::seal::{FramePlace, Opener, Role, Sealer, TAG_BYTES};
use crate::format::codec;
use crate::format::header::{Header, Kind, VERSION};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    /// The BLAKE3 hash of what stands before it in the clear, and of the place: neither can be exchanged.
    head: [u8; 32],
    value: T,
}

fn head_of(record: &Record, place: &[u8]) -> [u8; 32] {
    let head = Record { sealed: Vec::new(), ..record.clone() }.encode();
    *blake3::Hasher::new().update(place).update(&head).finalize().as_bytes()
}

/// Seals a value for a record's place. What is remembered is far below 4 GiB.
pub fn seal<T: Serialize>(value: &T, record: &Record, place: &[u8], keys: &Keys) -> Vec<u8> {
    let plain = codec::encode(&Sealed { head: head_of(record, place), value });
    let plain_bytes = u32::try_from(plain.len()).expect("what is remembered is bounded");
    let mut sealer = Sealer::new(keys, Kind::Mark, record.identity.suite, record.identity.repository);
    let mut bytes = sealer.header().encode();
    let from = bytes.len();
    bytes.extend_from_slice(&plain);
    sealer.seal(Role::Known, 0, plain_bytes, &mut bytes, from);
    bytes
}

/// Opens a record's value; `None` where it was sealed for another repository, record or place, or is none.
pub fn open<T: DeserializeOwned>(record: &Record, place: &[u8], keys: &Keys) -> Option<T> {
    let header = Header::decode(&record.sealed).ok()?;
    let identity = &record.identity;
    let is_own = (header.version, header.kind) == (VERSION, Kind::Mark)
        && header.suite == identity.suite
        && header.repository == identity.repository;
    let mut sealed = record.sealed.get(header.len_bytes()..).filter(|_| is_own)?.to_vec();
    let plain_bytes = u32::try_from(sealed.len().checked_sub(TAG_BYTES)?).ok()?;
    let place_in_object = FramePlace { role: Role::Known, number: 0, codec: 0, plain_bytes };
    let plain = Opener::new(keys, &header).ok()?.open(place_in_object, &mut sealed).ok()?;
    let opened: Sealed<T> = codec::decode("record of what was seen", plain).ok()?;
    (opened.head == head_of(record, place)).then_some(opened.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::Secret;
    use crate::format::header::Suite;
    use crate::format::tree::Time;
    use crate::id::{ObjectId, RepositoryId};
    use crate::known::{History, Identity, Seen};

    fn seen(at: u8) -> Seen {
        let time = Time { secs: i64::from(at), nanos: 0 };
        Seen::new(ObjectId([at; 32]), time, &format!("name-{at}"), "host")
    }

    #[test]
    fn a_history_opens_where_it_was_sealed_and_nowhere_else() {
        let keys = Keys::derive(&Secret([1; 32]));
        let history = History { seen: vec![seen(1), seen(2)], removed: vec![ObjectId([3; 32])] };
        for suite in [Suite::Plain, Suite::Aes256GcmSiv] {
            let identity = Identity { repository: RepositoryId([7; 16]), suite, config: [9; 32] };
            let head = Record { identity, place: b"/srv/repo".to_vec(), sealed: Vec::new() };
            let sealed = seal(&history, &head, b"place", &keys);
            assert_eq!(suite == Suite::Plain, sealed.windows(6).any(|window| window == b"name-1"), "{suite:?}");
            let record = Record { sealed, ..head.clone() };
            assert_eq!(open::<History>(&record, b"place", &keys), Some(history.clone()));
            assert_eq!(open::<History>(&record, b"other place", &keys), None);
            assert_eq!(open::<History>(&record, b"place", &Keys::derive(&Secret([2; 32]))), None);
            let other = Identity { config: [8; 32], ..identity };
            assert_eq!(
                open::<History>(&Record { identity: other, ..record.clone() }, b"place", &keys),
                None,
                "another head"
            );
            assert_eq!(
                open::<History>(&Record { place: b"/srv/else".to_vec(), ..record.clone() }, b"place", &keys),
                None
            );
            assert_eq!(open::<History>(&head, b"place", &keys), None, "nothing was sealed");
        }
    }
}
