//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

/// Connections that the kernel keeps until they are accepted: more than arrive in one turn of the runtime. (The
/// kernel's own bound, `net.core.somaxconn`, may be lower.)
const BACKLOG: i32 = 1024;

/// Listens at `address` on the current runtime, which is told of connections but does not take them: tokio's own
/// listener would register each socket with a runtime that it leaves at once.
#[expect(deprecated, reason = "what replaces it is unsafe; a TcpListener keeps its descriptor as long as it lives")]
pub(super) fn listen(address: SocketAddr) -> io::Result<AsyncFd<TcpListener>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` means all addresses, whatever the machine's default.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    AsyncFd::new(socket.into())
}
