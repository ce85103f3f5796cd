//! A connection's way through the shard.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::{debug, error};

use super::registry::{Asking, refusal};
use super::{ASK_AGAIN, RETRY, Sessions};
use crate::consensus::ProposeError;
use crate::handle::ClaimRefusal;
use crate::ids::Epoch;
use crate::limits::CLAIM_TIMEOUT;
use crate::sessions::{ClaimKey, Claimant, Command, Outcome};

/// A claim to be pursued.
pub(super) struct Wish {
    pub(super) key: ClaimKey,
    pub(super) by: Claimant,
    pub(super) clean_start: bool,
    pub(super) session_expiry: u32,
}

/// Asks until the claim is answered, its connection is gone, or time is up.
pub(super) async fn pursue(sessions: Sessions, wish: Wish, wake: Arc<Notify>) {
    let asked = tokio::time::timeout(CLAIM_TIMEOUT, ask(&sessions, &wish, &wake)).await;
    let (key, by) = (wish.key, wish.by);
    if asked.is_err() && sessions.0.registry.lock().asking(by) == Asking::Yes {
        sessions.0.stats.timed_out.fetch_add(1, Ordering::Relaxed);
        debug!(client = %key.client, "a claim was not answered in time");
        let act = sessions.0.registry.lock().refused(by, ClaimRefusal::Unavailable);
        sessions.act(act);
    } else if sessions.0.registry.lock().asking(by) == Asking::Settled {
        return;
    }
    sessions.0.registry.lock().forget(by);
    // Should the claim be committed after this, its grant finds no connection here and is released.
    let command = Command::Abandon { key: key.clone(), by };
    let_go(&sessions, &key, command.encode()).await;
}

async fn ask(sessions: &Sessions, wish: &Wish, wake: &Notify) {
    let Wish { key, by, clean_start, session_expiry } = wish;
    let (by, clean_start, session_expiry) = (*by, *clean_start, *session_expiry);
    let command = Command::Claim { key: key.clone(), by, clean_start, session_expiry }.encode();
    loop {
        let answer = propose(sessions, key, by, &command).await;
        match answer {
            None => return,
            Some(Ok(Outcome::Granted { epoch, session_present })) => {
                let act = sessions.0.registry.lock().granted(key.clone(), by, epoch, session_present);
                return sessions.act(act);
            }
            Some(Ok(Outcome::Refused(why))) => return refuse(sessions, by, refusal(why)),
            Some(Ok(Outcome::Waiting { .. } | Outcome::Done)) => pause(wake, ASK_AGAIN).await,
            Some(Err(ProposeError::Unavailable | ProposeError::Unknown)) => pause(wake, RETRY).await,
            Some(Err(why @ (ProposeError::TooLarge | ProposeError::Stopped(_)))) => {
                error!(client = %key.client, %why, "a claim cannot be proposed");
                return refuse(sessions, by, ClaimRefusal::Unavailable);
            }
        }
        if sessions.0.registry.lock().asking(by) != Asking::Yes {
            return;
        }
    }
}

/// `None` if the claim needs no proposing any more once its turn has come.
async fn propose(
    sessions: &Sessions,
    key: &ClaimKey,
    by: Claimant,
    command: &Bytes,
) -> Option<Result<Outcome, ProposeError>> {
    let _turn = sessions.0.claims.acquire().await.ok()?;
    if sessions.0.registry.lock().asking(by) != Asking::Yes {
        return None;
    }
    Some(send(sessions, key, command).await)
}

async fn send(sessions: &Sessions, key: &ClaimKey, command: &Bytes) -> Result<Outcome, ProposeError> {
    let group = sessions.0.meta.group_of(key.broker, &key.client);
    let applied = sessions.0.consensus.propose(group, command.clone()).await?;
    Outcome::decode(&applied.outcome).map_err(|unknown| ProposeError::Stopped(unknown.0))
}

fn refuse(sessions: &Sessions, by: Claimant, why: ClaimRefusal) {
    let act = sessions.0.registry.lock().refused(by, why);
    sessions.act(act);
}

async fn pause(wake: &Notify, limit: Duration) {
    let _either = tokio::time::timeout(limit, wake.notified()).await;
}

/// Releases what no connection serves any more.
pub(super) async fn release(sessions: Sessions, key: ClaimKey, by: Claimant, epoch: Epoch) {
    let command = Command::Release { key: key.clone(), by, epoch };
    let_go(&sessions, &key, command.encode()).await;
    sessions.0.registry.lock().released(by, epoch);
}

/// Proposes until it is committed or time is up; then the next claimant's revocation brings it back (R4).
async fn let_go(sessions: &Sessions, key: &ClaimKey, command: Bytes) {
    let attempts = async {
        loop {
            let Ok(turn) = sessions.0.releases.acquire().await else { return };
            let done = send(sessions, key, &command).await.is_ok();
            drop(turn);
            if done {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    if tokio::time::timeout(CLAIM_TIMEOUT, attempts).await.is_err() {
        sessions.0.stats.releases_dropped.fetch_add(1, Ordering::Relaxed);
    }
}
