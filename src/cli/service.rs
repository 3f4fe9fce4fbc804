//! Tells the service manager how a service is (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends states, as `READY=1`, where a service manager has named a socket in `NOTIFY_SOCKET`; else does nothing.
pub(super) fn tell(states: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    let address = match socket.as_encoded_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&socket),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(states.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!("The service manager at {} was not told {states:?}: {error}", socket.display());
    }
}
