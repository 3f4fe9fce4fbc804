//! Finds the process that serves a mount, and waits for its end.
//!
//! A server listens at a socket of the abstract namespace (unix(7)) that is named by the number of its mount's device, and
//! answers nobody: who connects is told by the kernel which process it is, and when that has closed the socket. Without a
//! name in a folder nothing is left of it. Whoever takes the name first has it: so what is told is believed only of a
//! process of root, of the mount's user or of one's own.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::table::Mounted;

/// Those who have asked and were not able to unmount stay in the queue; the kernel bounds it (listen(2), somaxconn).
const MAX_ASKING: i32 = 4096;

/// So long a process that has closed its socket is given to end. One that lives on serves other things.
const MAX_ENDING: Duration = Duration::from_secs(1);

/// The process that serves a mount.
#[derive(Debug)]
pub struct ServerProcess {
    /// Hung up when it ends.
    connection: OwnedFd,
    pid: Option<Pid>,
    /// Readable when it has ended; the kernel has it since 5.3.
    pidfd: Option<OwnedFd>,
}

fn socket(device: &str) -> Result<(OwnedFd, SocketAddrUnix), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok((socket, SocketAddrUnix::new_abstract_name(format!("bakfs-mount-{device}").as_bytes())?))
}

/// Has this process found as the server of a mount, as long as what is returned is not dropped.
pub(crate) fn announce(device: &str) -> Result<OwnedFd, Errno> {
    let (socket, name) = socket(device)?;
    rustix::net::bind(&socket, &name)?;
    rustix::net::listen(&socket, MAX_ASKING)?;
    Ok(socket)
}

impl Mounted {
    /// Returns the process that serves the mount; `None` where it does not tell, as one of another network namespace.
    pub fn server(&self) -> Option<ServerProcess> {
        let (connection, name) = socket(&self.device).ok()?;
        rustix::net::connect(&connection, &name).ok()?;
        let told = rustix::net::sockopt::socket_peercred(&connection).ok()?;
        let uid = told.uid.as_raw();
        if uid != 0 && uid != rustix::process::geteuid().as_raw() && Some(uid) != self.user_id {
            return None;
        }
        // 0 is one of a namespace that is not seen from here.
        let pid = Some(told.pid).filter(|pid| pid.as_raw_nonzero().get() > 0);
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Some(ServerProcess { connection, pid, pidfd })
    }
}

impl ServerProcess {
    /// Returns its number, where it is seen from here.
    pub fn pid(&self) -> Option<i32> {
        self.pid.map(|pid| pid.as_raw_nonzero().get())
    }

    /// Waits until it has ended, or lives on and has done with the mount, for at most `max`; says whether that is so.
    pub fn wait_for_end(&self, max: Duration) -> bool {
        let until = Instant::now() + max;
        let hung_up = || PollFd::from_borrowed_fd(self.connection.as_fd(), PollFlags::empty());
        let Some(pidfd) = &self.pidfd else { return wait_for_any(&mut [hung_up()], until) };
        let ended = || PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN);
        if !wait_for_any(&mut [ended(), hung_up()], until) {
            return false;
        }
        // A process that ends closes its files one by one.
        let given_up = Instant::now() + MAX_ENDING;
        wait_for_any(&mut [ended()], until.min(given_up)) || given_up <= until
    }
}

/// Waits until something has happened to any; says whether it has.
fn wait_for_any(of: &mut [PollFd<'_>], until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(of, Some(&timeout)) {
            Err(Errno::INTR) => {}
            Err(_) | Ok(0) => return false,
            Ok(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mounted(device: &str) -> Mounted {
        let line = format!("40 42 {device} / /mnt ro - fuse.bakfs repo ro,user_id=0,group_id=0");
        Mounted::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn a_server_is_found_and_its_end_waited_for() {
        // No device of the kernel's has such a number.
        let device = format!("0:test-{}", std::process::id());
        assert!(mounted(&device).server().is_none());
        let listening = announce(&device).unwrap();
        assert_eq!(announce(&device).unwrap_err(), Errno::ADDRINUSE);
        let mut server = mounted(&device).server().unwrap();
        assert_eq!(server.pid(), Some(std::process::id() as i32));
        // This process lives, and so does its socket.
        assert!(server.pidfd.is_some() && !server.wait_for_end(Duration::from_millis(20)));
        server.pidfd = None;
        assert!(!server.wait_for_end(Duration::from_millis(20)));
        drop(listening);
        assert!(server.wait_for_end(Duration::from_secs(60)));
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        server.pidfd = Some(pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap());
        assert!(!server.wait_for_end(Duration::from_millis(20)));
        child.kill().unwrap();
        assert!(server.wait_for_end(Duration::from_secs(60)));
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_lives_on_without_the_mount_is_not_waited_for() {
        let device = format!("0:lives-{}", std::process::id());
        let listening = announce(&device).unwrap();
        let server = mounted(&device).server().unwrap();
        assert!(server.pidfd.is_some() && !server.wait_for_end(Duration::from_millis(20)));
        drop(listening);
        assert!(server.wait_for_end(Duration::from_secs(3600)));
    }
}
