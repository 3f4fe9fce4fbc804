//! Acts as another user in a thread: the kernel keeps credentials for each thread (credentials(7)).

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// A user: number, primary group, further groups.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// User id; 0 keeps root.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: &'static [u32],
}

/// Debian's `nobody`.
pub const NOBODY: User = User { uid: 65_534, gid: 65_534, groups: &[] };
/// root as it is.
pub const ROOT: User = User { uid: 0, gid: 0, groups: &[] };

/// Runs a closure with a user's credentials, capabilities included; panics are passed on.
pub fn acting_as<T: Send>(user: User, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
            let (gid, uid) = (Gid::from_raw(user.gid), Uid::from_raw(user.uid));
            set_thread_groups(&groups).unwrap();
            set_thread_res_gid(gid, gid, gid).unwrap();
            set_thread_res_uid(uid, uid, uid).unwrap();
            act()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
