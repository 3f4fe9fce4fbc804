//! Random numbers of the operating system.

/// Fills a buffer with random bytes (getrandom(2)). It goes by libc's name: a test that simulates many processes gives
/// numbers of its own there.
///
/// # Panics
/// If the operating system has none to give: nothing may be written then.
pub fn fill_random(bytes: &mut [u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: the pointer and the length are those of a buffer that is borrowed mutably.
        let len = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(len) {
            Ok(len) => rest = &mut rest[len..],
            Err(_) => {
                let error = std::io::Error::last_os_error();
                let is_interrupted = error.kind() == std::io::ErrorKind::Interrupted;
                assert!(is_interrupted, "the operating system gives no random bytes: {error}");
            }
        }
    }
}
