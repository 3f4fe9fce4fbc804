//! Memory of keys: wiped when dropped, not swapped as far as that is allowed, and in no core.

use std::ops::Deref;
use zeroize::{Zeroize, Zeroizing};

/// A value in pages of its own, left out of cores (madvise(2), MADV_DONTDUMP) and locked into memory where the limit of
/// locked memory allows it.
pub struct Hidden<T: Zeroize> {
    #[cfg(not(miri))]
    value: std::ptr::NonNull<T>,
    #[cfg(miri)]
    value: Box<T>,
}

// SAFETY: it owns its value, as a `Box` does.
unsafe impl<T: Zeroize + Send> Send for Hidden<T> {}
// SAFETY: a shared one gives shared references only, as a `Box` does.
unsafe impl<T: Zeroize + Sync> Sync for Hidden<T> {}

#[cfg(not(miri))]
mod pages {
    use super::Hidden;
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
    use std::ptr::{NonNull, null_mut};
    use zeroize::Zeroize;

    impl<T: Zeroize> Hidden<T> {
        /// Whole pages; a value that takes no room has one as well.
        const LEN: usize = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };

        /// Moves a value into hidden memory. What it was moved from is not wiped: see [`super::wipe_stack`].
        ///
        /// # Panics
        /// If there is no memory.
        pub fn new(value: T) -> Self {
            const { assert!(align_of::<T>() <= 4096, "pages are aligned to 4096 bytes at least") };
            let (read_write, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
            // SAFETY: new pages are mapped where the kernel likes; no memory in use is touched.
            let pages = unsafe { mmap_anonymous(null_mut(), Self::LEN, read_write, private) };
            let pages = pages.expect("there is memory for a key");
            // SAFETY: the pages are ours; advice and lock change nothing in them, and failing costs only what they are for.
            unsafe {
                let _ = madvise(pages, Self::LEN, Advice::LinuxDontDump);
                let _ = mlock(pages, Self::LEN);
            }
            let place = NonNull::new(pages.cast::<T>()).expect("a mapping is not at address 0");
            // SAFETY: the pages are writable, large enough and aligned (asserted above).
            unsafe { place.write(value) };
            Hidden { value: place }
        }

        pub(super) fn get(&self) -> &T {
            // SAFETY: the value was written by `new` and lives until this is dropped.
            unsafe { self.value.as_ref() }
        }
    }

    impl<T: Zeroize> Drop for Hidden<T> {
        fn drop(&mut self) {
            // SAFETY: the value is used for the last time, and the pages are those of `new`.
            unsafe {
                self.value.as_mut().zeroize();
                self.value.drop_in_place();
                let _ = munmap(self.value.as_ptr().cast(), Self::LEN);
            }
        }
    }
}

#[cfg(miri)]
impl<T: Zeroize> Hidden<T> {
    /// Moves a value into memory of its own.
    pub fn new(value: T) -> Self {
        Hidden { value: Box::new(value) }
    }

    fn get(&self) -> &T {
        &self.value
    }
}

#[cfg(miri)]
impl<T: Zeroize> Drop for Hidden<T> {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl<T: Zeroize> Deref for Hidden<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.get()
    }
}

/// Bytes are hidden by pieces of this length.
const PIECE_BYTES: usize = 4096;

/// Bytes of any length in memory that no core has.
pub struct HiddenBytes {
    len_bytes: usize,
    pieces: Vec<Hidden<[u8; PIECE_BYTES]>>,
}

impl HiddenBytes {
    /// Hides a copy; the original is the caller's to wipe.
    #[inline(never)]
    pub fn new(value: &[u8]) -> Self {
        let pieces = value.chunks(PIECE_BYTES).map(|bytes| {
            let mut piece = [0; PIECE_BYTES];
            piece[..bytes.len()].copy_from_slice(bytes);
            Hidden::new(piece)
        });
        HiddenBytes { len_bytes: value.len(), pieces: pieces.collect() }
    }

    /// Returns a copy, which is wiped when it is dropped.
    pub fn value(&self) -> Zeroizing<Vec<u8>> {
        // With its whole length from the start, it leaves no copy behind as it grows.
        let mut value = Zeroizing::new(Vec::with_capacity(self.pieces.len() * PIECE_BYTES));
        self.pieces.iter().for_each(|piece| value.extend_from_slice(&**piece));
        value.truncate(self.len_bytes);
        value
    }
}

/// Overwrites what functions that have returned left below their caller's frame: hashes and ciphers keep copies of keys
/// there that nothing else wipes. Whoever calls it must not have had them inlined.
#[inline(never)]
pub fn wipe_stack<const BYTES: usize>() {
    let mut room = std::mem::MaybeUninit::<[u8; BYTES]>::uninit();
    // SAFETY: the pointer is to a local of that type; a volatile write is not left out although nobody reads it.
    unsafe { std::ptr::write_volatile(room.as_mut_ptr(), [0; BYTES]) };
    std::hint::black_box(&mut room);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_any_length_is_kept_whole() {
        for len_bytes in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES + 7] {
            let value: Vec<u8> = (0..len_bytes).map(|at| at as u8).collect();
            assert_eq!(*HiddenBytes::new(&value).value(), value);
        }
    }

    #[test]
    fn hidden_memory_is_left_out_of_cores() {
        let hidden = Hidden::new([7u8; 64]);
        assert_eq!(*hidden, [7; 64]);
        if cfg!(miri) {
            return;
        }
        let address = hidden.as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_there = false;
        let flags = maps.lines().find_map(|line| {
            if let Some((range, _)) = line.split_once(' ').filter(|(range, _)| range.contains('-')) {
                let ends = range.split_once('-').and_then(|(from, to)| {
                    Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
                });
                is_there = ends.is_some_and(|(from, to)| (from..to).contains(&address));
            }
            line.strip_prefix("VmFlags:").filter(|_| is_there)
        });
        assert!(flags.unwrap().split_whitespace().any(|flag| flag == "dd"), "{flags:?}");
        drop(hidden);
        wipe_stack::<4096>();
    }
}
