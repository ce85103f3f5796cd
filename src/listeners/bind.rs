//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::net::{SocketFlags, acceptfrom_with};
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
    // What is accepted inherits it, so it costs no call for each connection. Whoever writes here gathers by itself.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    AsyncFd::new(socket.into())
}

/// The next connection, non-blocking and without Nagle's delay, in one call.
pub(super) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, from) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    // A connection that is gone already may have no address any more.
    let from = from.ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((socket.into(), SocketAddr::try_from(from)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_accepted_blocks_nobody_and_waits_for_nothing() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = TcpStream::connect(listener.get_ref().local_addr().unwrap()).unwrap();
        let _ready = listener.readable().await.unwrap();
        let (socket, from) = accept(listener.get_ref()).unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        assert!(socket.nodelay().unwrap());
        let nothing = io::Read::read(&mut &socket, &mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
}
