//! Random numbers of the operating system.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Fills a buffer with random bytes (getrandom(2)).
///
/// # Panics
/// If the operating system has none to give: nothing may be written then.
pub fn fill_random(bytes: &mut [u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        match getrandom(&mut *rest, GetRandomFlags::empty()) {
            Ok(len) => rest = &mut rest[len..],
            Err(error) => assert!(error == Errno::INTR, "the operating system gives no random bytes: {error}"),
        }
    }
}
