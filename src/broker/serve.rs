//! One connection's task: reads into the core, writes what the core left.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rookery_cluster::limits::RELEASE_FLUSH;

use super::core::{ConnKey, Input};
use super::transport::{Incoming, Read};
use super::worker::Shared;

/// Reads of one wake-up before others get their turn (R19): a flood costs its own connection's time.
const READS_PER_TURN: u32 = 4;
/// How long the transport's own goodbye may take, and the client to close after it.
const GOODBYE: Duration = Duration::from_millis(500);

/// How a connection's turns ended.
enum End {
    /// The core closes it: what waits is flushed first.
    Closing,
    /// The socket is gone.
    Gone,
    /// The client broke its transport's rules, and a frame that says so waits.
    Offended,
}

/// Serves one connection until it ends.
pub(super) async fn serve(shared: Rc<Shared>, key: ConnKey, mut incoming: Box<Incoming>) {
    let end = poll_fn(|cx| turn(&shared, key, &mut incoming, cx)).await;
    match end {
        End::Closing => {
            let flush = poll_fn(|cx| write(&shared, key, &mut incoming, cx));
            // Whatever the outcome, the claim goes back afterwards: the next holder has waited long enough.
            let _ = tokio::time::timeout(RELEASE_FLUSH, flush).await;
            shared.flushed(key);
            // Closing says as much as a goodbye, and there is nothing on its way that it could cut off.
            let enough = shared.core.borrow().has_left(key) && !incoming.has_goodbye();
            if !enough {
                let _ = tokio::time::timeout(GOODBYE, goodbye(&shared, &mut incoming)).await;
            }
        }
        End::Offended => {
            // The session is over; telling the client why holds nobody up.
            shared.forget(key);
            let _ = tokio::time::timeout(GOODBYE, dismiss(&shared, &mut incoming)).await;
            return;
        }
        End::Gone => {}
    }
    shared.forget(key);
}

/// Shuts down, then takes what the client still sends until it closes as well: a socket that is closed with bytes
/// unread resets the connection, and with it the DISCONNECT or CONNACK may be lost that says why.
async fn goodbye(shared: &Shared, incoming: &mut Incoming) -> io::Result<()> {
    poll_fn(|cx| incoming.poll_shutdown(cx)).await?;
    while !matches!(
        poll_fn(|cx| incoming.poll_read(cx, &mut shared.buffer.borrow_mut())).await?,
        Read::End | Read::Offence(_)
    ) {}
    Ok(())
}

/// As [`goodbye`], with a client whose frames make no sense any more.
async fn dismiss(shared: &Shared, incoming: &mut Incoming) -> io::Result<()> {
    poll_fn(|cx| incoming.poll_shutdown(cx)).await?;
    poll_fn(|cx| incoming.poll_end(cx)).await?;
    while !matches!(poll_fn(|cx| incoming.poll_discard(cx, &mut shared.buffer.borrow_mut())).await?, Read::End) {}
    Ok(())
}

fn turn(shared: &Rc<Shared>, key: ConnKey, incoming: &mut Incoming, cx: &mut Context<'_>) -> Poll<End> {
    shared.register(key, cx.waker());
    for _ in 0..READS_PER_TURN {
        if let Poll::Ready(Err(_)) = write(shared, key, incoming, cx) {
            return Poll::Ready(End::Gone);
        }
        // What was written made room: there may be retained messages to be read.
        shared.schedule_flush();
        if shared.core.borrow().closing(key) {
            return Poll::Ready(End::Closing);
        }
        if !shared.core.borrow().wants_read(key) {
            return Poll::Pending;
        }
        let mut buffer = shared.buffer.borrow_mut();
        match incoming.poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(Read::Filled(n))) => shared.step(Input::Read { conn: key, bytes: &buffer[..n] }),
            Poll::Ready(Ok(Read::Message(bytes))) => shared.step(Input::Read { conn: key, bytes: &bytes }),
            Poll::Ready(Ok(Read::Offence(offence))) => {
                *shared.core.borrow_mut().stats.transport_errors.entry(offence.label()).or_default() += 1;
                return Poll::Ready(End::Offended);
            }
            Poll::Ready(Ok(Read::End) | Err(_)) => return Poll::Ready(End::Gone),
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

fn write(shared: &Rc<Shared>, key: ConnKey, incoming: &mut Incoming, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut core = shared.core.borrow_mut();
    loop {
        let Some(out) = core.outbound(key) else { return Poll::Ready(Ok(())) };
        let before = out.len();
        let result = incoming.poll_write(cx, out);
        if out.len() == before {
            return result;
        }
        core.drained(shared.now(), key);
        // What moved up behind the bytes that left has nobody else to announce it. The runtime's budget for one
        // task bounds the loop.
        if !matches!(result, Poll::Ready(Ok(()))) {
            return result;
        }
    }
}
