//! Signals that end a command (SIGINT, SIGTERM, SIGHUP), and what must not outlive it.

use crate::error::{Context, Result};
use crate::remote::close_connections;
use crate::trust::descriptors;
use parking_lot::Mutex;
use rustix::termios::{OptionalActions, Termios};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the command ends by itself when it is asked to.
static IS_HANDLED: AtomicBool = AtomicBool::new(false);

/// Whether a signal ends the command at this moment.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Waits for signals on a thread of its own and hands each to `each`; those that this process was started to ignore, as
/// by nohup(1), stay so.
pub fn handle(each: impl FnMut(i32) + Send + 'static) -> Result<()> {
    IS_HANDLED.store(true, Ordering::Relaxed);
    watch(each)
}

/// How the terminal was before it was told not to show what is typed.
static SHOWN: Mutex<Option<Termios>> = Mutex::new(None);

/// Sees to it that connections, which are processes of their own, end where a signal ends this command.
pub fn close_connections_at_end() -> Result<()> {
    watch_end()
}

/// Sees to it that a terminal shows again what is typed where a signal ends this command while it asks for a secret.
pub fn show_typing_at_end(shown: Option<Termios>) -> Result<()> {
    *SHOWN.lock() = shown;
    watch_end()
}

/// Tidies up where a signal ends this command; one thread does all, for the process is gone when the first is done.
fn watch_end() -> Result<()> {
    static BEGUN: Once = Once::new();
    let mut begun = Ok(());
    BEGUN.call_once(|| {
        begun = watch(|signal| {
            if let Some(shown) = SHOWN.lock().take() {
                // It is gone if this fails.
                let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &shown);
            }
            if !IS_HANDLED.load(Ordering::Relaxed) {
                IS_ENDING.store(true, Ordering::Relaxed);
                // What fails without its connection is no news.
                if let Ok(null) = descriptors::nowhere() {
                    let _ = rustix::stdio::dup2_stderr(null);
                }
                close_connections();
                // Whoever waits for this process is told that the signal ended it.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        });
    });
    begun
}

/// Does not return where a signal ends this command: it is that which ends it, and not what came of it.
pub fn yield_to_end() {
    while IS_ENDING.load(Ordering::Relaxed) {
        std::thread::park();
    }
}

fn watch(mut each: impl FnMut(i32) + Send + 'static) -> Result<()> {
    let asked = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
    let waiting = || "Cannot wait for signals".to_string();
    let mut signals = Signals::new(asked).context(waiting)?;
    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(move || signals.forever().for_each(&mut each)).context(waiting)?;
    Ok(())
}

/// Returns whether this process was started to ignore a signal.
fn is_ignored(signal: i32) -> bool {
    let mut set = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sigaction(2) only writes what is set now; all bytes zero are a value of the type.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), set.as_mut_ptr()) == 0
            && set.assume_init().sa_sigaction == libc::SIG_IGN
    }
}
