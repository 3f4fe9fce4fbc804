//! Descriptors that no other program is to inherit, and standard output as this process was started with it.

use libc::c_uint;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor that is none of the standard streams.
const FIRST: c_uint = 3;
/// Kernels that must be asked about each descriptor are asked about so many.
const MAX_ASKED: c_uint = 1 << 16;

/// Whether nothing can be written to the descriptor that this process was started with as its standard output.
static IS_OUTPUT_SHUT: AtomicBool = AtomicBool::new(false);

/// Looks at standard output before Rust's runtime opens /dev/null in the place of each standard stream that is closed:
/// without it the next file that is opened would be one, and with it what is written is lost without an error.
extern "C" fn look_at_output() {
    // SAFETY: the call takes numbers only (fcntl(2)).
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFL) };
    let is_shut = flags < 0 || flags & libc::O_PATH != 0 || flags & libc::O_ACCMODE == libc::O_RDONLY;
    IS_OUTPUT_SHUT.store(is_shut, Ordering::Relaxed);
}

/// What is listed here is called before `main` (System V gABI, "Initialization and Termination Functions").
#[used]
// SAFETY: the function takes nothing, needs nothing of the runtime and does not unwind.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look_at_output;

/// Returns whether this process was started without a standard output, or with one that can only be read.
pub fn is_output_shut() -> bool {
    IS_OUTPUT_SHUT.load(Ordering::Relaxed)
}

/// Opens what takes all that is written to it, /dev/null, or on a disk that has not even that a pipe that nobody reads:
/// there writing is an error (EPIPE), which is as good.
pub fn nowhere() -> io::Result<File> {
    let null = File::options().write(true).open("/dev/null");
    null.or_else(|error| io::pipe().map(|(_, writer)| OwnedFd::from(writer).into()).map_err(|_| error))
}

/// Opens what is at its end, likewise.
pub fn nothing() -> io::Result<File> {
    File::open("/dev/null")
        .or_else(|error| io::pipe().map(|(reader, _)| OwnedFd::from(reader).into()).map_err(|_| error))
}

/// Has all descriptors but the standard streams closed when another program is executed. Async-signal-safe: it may be
/// called between fork(2) and exec(3).
pub fn close_on_exec() {
    // SAFETY: the call takes numbers only, and flags descriptors that stay open (close_range(2), Linux 5.11).
    let done = unsafe { libc::syscall(libc::SYS_close_range, FIRST, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done != 0 {
        one_by_one();
    }
}

/// As [`close_on_exec`], for older kernels.
fn one_by_one() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes to the structure only (getrlimit(2)).
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    let end = if asked == 0 { limit.rlim_cur.min(MAX_ASKED.into()) as c_uint } else { MAX_ASKED };
    for number in FIRST..end {
        // SAFETY: numbers that are no descriptor are an error and nothing else (fcntl(2)).
        unsafe {
            let flags = libc::fcntl(number as libc::c_int, libc::F_GETFD);
            if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
                libc::fcntl(number as libc::c_int, libc::F_SETFD, flags | libc::FD_CLOEXEC);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    #[test]
    fn both_ways_close_what_was_inherited_when_a_program_begins() {
        let file = std::fs::File::open("/dev/null").unwrap();
        for close in [super::close_on_exec, super::one_by_one] {
            // SAFETY: the descriptor is that of an open file.
            unsafe { assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0), 0) };
            close();
            // SAFETY: as above.
            let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
    }
}
