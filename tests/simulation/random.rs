//! The only source of chance: every random number of a run, those of the product and of the standard library's
//! hash tables included, and every look at the clock follows from the seed.

use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number below `bound`, which is far below 2^32: the bias does not matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 32) % bound
    }

    /// Returns true so many times in ten thousand.
    pub fn chance(&mut self, per_10_000: u64) -> bool {
        self.below(10_000) < per_10_000
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

thread_local! {
    /// The state of this thread's numbers; 0 before the first.
    static STREAM: Cell<u64> = const { Cell::new(0) };
}

/// What the numbers of threads follow from that a participant starts; 0 while nothing is simulated.
static KEY: AtomicU64 = AtomicU64::new(0);

/// The clock of who is acting, in seconds since 1970.
static CLOCK: AtomicI64 = AtomicI64::new(0);

/// Tells on whose behalf threads are started from now on, and what the clock shows there.
pub fn set_key(key: u64, clock_secs: i64) {
    KEY.store(key, Ordering::SeqCst);
    CLOCK.store(clock_secs, Ordering::SeqCst);
}

/// Starts this thread's numbers.
pub fn set_thread(seed: u64) {
    STREAM.set(mix(seed) | 1);
}

/// Replaces the C library's getrandom(2) in this test binary.
///
/// # Safety
/// `buffer` must have room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, len: usize, flags: c_uint) -> isize {
    let key = KEY.load(Ordering::SeqCst);
    if key == 0 {
        // SAFETY: the caller's promise is the system call's.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) } as isize;
    }
    let mut random = Random::new(match STREAM.get() {
        0 => mix(key ^ thread_name()),
        state => state,
    });
    // SAFETY: the caller promises that the buffer has this length.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
    for bytes in bytes.chunks_mut(8) {
        bytes.copy_from_slice(&random.next().to_le_bytes()[..bytes.len()]);
    }
    STREAM.set(random.0);
    isize::try_from(len).expect("no buffer is longer")
}

fn thread_name() -> u64 {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes (prctl(2)).
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let (low, high) = name.split_at(8);
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    mix(word(low)) ^ word(high)
}

/// Replaces the C library's clock_gettime(2) in this test binary.
///
/// # Safety
/// `time` must point to a timespec.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    if clock != libc::CLOCK_REALTIME || KEY.load(Ordering::SeqCst) == 0 {
        // SAFETY: the caller's promise is the system call's.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    }
    // SAFETY: the caller promises that it points to a timespec.
    unsafe { *time = libc::timespec { tv_sec: CLOCK.load(Ordering::SeqCst), tv_nsec: 0 } };
    0
}
