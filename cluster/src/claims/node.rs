//! A connection's way through the shard.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{debug, error};

use super::registry::{Asking, Ending, refusal};
use super::streams::Answer;
use super::{ASK_AGAIN, RETRY, Sessions};
use crate::consensus::ProposeError;
use crate::handle::{ClaimRefusal, SessionGrant};
use crate::ids::{Epoch, NodeLife};
use crate::limits::CLAIM_TIMEOUT;
use crate::sessions::{ClaimKey, Claimant, Outcome, Proposal, Refusal, Will};

/// A claim to be pursued.
pub(super) struct Wish {
    pub(super) key: ClaimKey,
    pub(super) by: Claimant,
    pub(super) clean_start: bool,
    pub(super) session_expiry: u32,
    pub(super) will: Option<Will>,
}

/// Asks until the claim is answered, its connection is gone, or time is up.
pub(super) async fn pursue(sessions: Sessions, wish: Wish, wake: Arc<Notify>) {
    // Whether the shard may know of the claim.
    let mut known = false;
    let asked = tokio::time::timeout(CLAIM_TIMEOUT, ask(&sessions, &wish, &wake, &mut known)).await;
    if asked.is_err() {
        debug!(client = %wish.key.client, "a claim was not answered in time");
    }
    let Wish { key, by, .. } = wish;
    if give_up(&sessions, by) && known {
        let_go(&sessions, by.life, &key, Proposal::Abandon { key: key.clone(), nonce: by.nonce }).await;
    }
}

/// Ends an unanswered claim. False if it was answered in the meantime.
fn give_up(sessions: &Sessions, by: Claimant) -> bool {
    let mut registry = sessions.0.registry.lock();
    let asking = registry.asking(by);
    let act = registry.refused(by, ClaimRefusal::Unavailable);
    drop(registry);
    if asking == Asking::Yes {
        sessions.0.stats.timed_out.fetch_add(1, Ordering::Relaxed);
    }
    sessions.act(act);
    asking != Asking::Settled
}

async fn ask(sessions: &Sessions, wish: &Wish, wake: &Notify, known: &mut bool) {
    let by = wish.by;
    while sessions.0.registry.lock().asking(by) == Asking::Yes {
        let answer = tokio::select! {
            answer = claim(sessions, wish, known) => answer,
            () = no_longer_asking(sessions, by, wake) => return,
        };
        match answer {
            Ok(Outcome::Granted { epoch, .. }) => return granted(sessions, wish, epoch, None),
            Ok(Outcome::GrantedSession { epoch, session }) => return granted(sessions, wish, epoch, Some(session)),
            Ok(Outcome::Refused(why)) => {
                if why == Refusal::Full {
                    sessions.0.stats.sessions_refused.fetch_add(1, Ordering::Relaxed);
                }
                return refuse(sessions, by, refusal(why));
            }
            Ok(Outcome::Waiting { .. } | Outcome::Done | Outcome::Subscriptions { .. }) => {
                *known = true;
                pause(wake, ASK_AGAIN).await;
            }
            // The connection is still there: it claims anew, by what is known now.
            Ok(Outcome::Outdated { .. } | Outcome::Spent) => {}
            Ok(Outcome::Gap { .. }) | Err(ProposeError::Unavailable | ProposeError::Unknown) => {
                pause(wake, RETRY).await;
            }
            Err(why @ (ProposeError::TooLarge | ProposeError::Stopped(_))) => {
                error!(client = %wish.key.client, %why, "a claim cannot be proposed");
                return refuse(sessions, by, ClaimRefusal::Unavailable);
            }
        }
    }
}

fn granted(sessions: &Sessions, wish: &Wish, epoch: Epoch, session: Option<SessionGrant>) {
    let act = sessions.0.registry.lock().granted(wish.key.clone(), wish.by, epoch, session);
    sessions.act(act);
}

async fn claim(sessions: &Sessions, wish: &Wish, known: &mut bool) -> Result<Outcome, ProposeError> {
    let Wish { key, by, clean_start, session_expiry, will } = wish;
    let group = sessions.0.meta.group_of(key.broker, &key.client);
    let heard = sessions.0.streams.heard(group).max(sessions.0.board.epoch(group));
    let (key, nonce) = (key.clone(), by.nonce);
    let (clean_start, session_expiry) = (*clean_start, *session_expiry);
    let what = Proposal::Claim { key, nonce, clean_start, session_expiry, heard, will: will.clone() };
    sessions.0.streams.propose(by.life, group, what, known)?.outcome().await
}

async fn no_longer_asking(sessions: &Sessions, by: Claimant, wake: &Notify) {
    while sessions.0.registry.lock().asking(by) == Asking::Yes {
        wake.notified().await;
    }
}

fn refuse(sessions: &Sessions, by: Claimant, why: ClaimRefusal) {
    let act = sessions.0.registry.lock().refused(by, why);
    sessions.act(act);
}

async fn pause(wake: &Notify, limit: Duration) {
    let _either = tokio::time::timeout(limit, wake.notified()).await;
}

impl Sessions {
    /// Releases what no connection serves any more. Nothing waits here: the shard is told when it is the claim's turn.
    pub(super) fn give_back(&self, ending: Ending) {
        let Ending { key, by, epoch, leave, haste } = ending;
        let group = self.0.meta.group_of(key.broker, &key.client);
        let what = Proposal::Release { key, nonce: by.nonce, epoch, leave };
        let sessions = self.clone();
        let waiter = Box::new(move |answer: Answer| sessions.given_back(by, epoch, answer.err()));
        if let Err(why) = self.0.streams.entrust(by.life, group, what, haste, waiter) {
            self.given_back(by, epoch, Some(why));
        }
    }

    fn given_back(&self, by: Claimant, epoch: Epoch, failed: Option<ProposeError>) {
        self.count_dropped(failed);
        self.0.registry.lock().released(by, epoch);
    }

    /// If there was no room, the next claimant's revocation brings it back (R4).
    fn count_dropped(&self, failed: Option<ProposeError>) {
        if let Some(ProposeError::Unavailable | ProposeError::TooLarge | ProposeError::Stopped(_)) = failed {
            self.0.stats.releases_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Proposes until it is committed or `life` is over.
async fn let_go(sessions: &Sessions, life: NodeLife, key: &ClaimKey, what: Proposal) {
    let group = sessions.0.meta.group_of(key.broker, &key.client);
    let mut known = false;
    let outcome = match sessions.0.streams.propose(life, group, what, &mut known) {
        Ok(mut pending) => pending.outcome().await,
        Err(why) => Err(why),
    };
    sessions.count_dropped(outcome.err());
}
