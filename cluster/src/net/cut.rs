//! A byte stream that can be ended from outside: by a shutdown, or by `PeerChannels::reset`. gRPC's own ways
//! of closing wait for calls in progress, and the calls of a zombie never end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// Ends the streams made with it: at [`Cut::now`], or when dropped.
pub struct Cut(watch::Sender<bool>);

impl Default for Cut {
    fn default() -> Self {
        Self::new()
    }
}

impl Cut {
    /// One that has not happened.
    pub fn new() -> Self {
        Cut(watch::channel(false).0)
    }

    /// Ends all streams made with it, now and later.
    pub fn now(&self) {
        self.0.send_replace(true);
    }

    /// For one stream.
    pub fn signal(&self) -> CutSignal {
        self.watch().signal()
    }

    /// For making signals later, without keeping the cut from being dropped.
    pub(super) fn watch(&self) -> CutWatch {
        CutWatch(self.0.subscribe())
    }
}

pub(super) struct CutWatch(watch::Receiver<bool>);

impl CutWatch {
    pub(super) fn signal(&self) -> CutSignal {
        let mut cut = self.0.clone();
        // An error says that the sender was dropped: cut as well.
        Box::pin(async move { drop(cut.wait_for(|now| *now).await) })
    }
}

type OnError = Box<dyn FnOnce(&io::Error) + Send>;
/// Resolves when a stream is to end.
pub type CutSignal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// `io` until `signal`; from then on every read and write fails. `on_error` sees read errors once.
pub struct Cuttable<T> {
    io: T,
    signal: Option<CutSignal>,
    on_error: Option<OnError>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Cuttable<T> {
    /// `io` until `signal`.
    pub fn new(io: T, signal: CutSignal) -> Self {
        Self { io, signal: Some(signal), on_error: None }
    }

    pub(super) fn on_error(mut self, call: impl FnOnce(&io::Error) + Send + 'static) -> Self {
        self.on_error = Some(Box::new(call));
        self
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(signal) = &mut self.signal {
            if signal.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.signal = None;
        }
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "connection given up by this node"))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Cuttable<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read
            && let Some(on_error) = self.on_error.take()
        {
            on_error(error);
        }
        read
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Cuttable<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A cut stream is closed by dropping it: the far side may never read our farewell.
        if self.check(cx).is_err() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
