//! What gRPC is given: connections that were let in.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::cut::{CutSignal, Cuttable};

/// A connection that can be ended from outside, with what is known of its caller: that is in the extensions of every
/// request on it.
pub struct Accepted<S, C> {
    io: Cuttable<S>,
    info: C,
}

impl<S: AsyncRead + AsyncWrite + Unpin, C> Accepted<S, C> {
    /// `io` until `signal`.
    pub fn new(io: S, signal: CutSignal, info: C) -> Self {
        Self { io: Cuttable::new(io, signal), info }
    }
}

impl<S, C: Clone + Send + Sync + 'static> Connected for Accepted<S, C> {
    type ConnectInfo = C;
    fn connect_info(&self) -> C {
        self.info.clone()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, C: Unpin> AsyncRead for Accepted<S, C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, C: Unpin> AsyncWrite for Accepted<S, C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
