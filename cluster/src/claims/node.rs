//! A connection's way through the shard. A claim is put into its shard's stream, and mostly its answer is a grant, which the
//! stream brings where it is wanted; only a claim that has to wait, or to ask again, gets a task.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{debug, error};

use super::registry::{Asking, Bell, Ending, Grant, Haste, REST, refusal};
use super::streams::Answer;
use super::{ASK_AGAIN, RETRY, Sessions};
use crate::clock::Moment;
use crate::consensus::ProposeError;
use crate::handle::{ClaimRefusal, SessionGrant};
use crate::ids::{Epoch, GroupId, NodeLife};
use crate::limits::CLAIM_TIMEOUT;
use crate::sessions::{ClaimKey, Claimant, Outcome, Proposal, Refusal, Ticket, Will};

/// Who goes after an unanswered claim.
pub(super) enum Pursuit {
    /// It is being put into its shard's stream.
    Begun,
    /// Its first proposal is there, since then; nobody but the answer looks after it.
    Proposed(GroupId, Ticket, Moment),
    /// A task.
    Task(Arc<Notify>),
}

impl Bell for Pursuit {
    fn ring(&self) -> bool {
        if let Self::Task(wake) = self {
            wake.notify_one();
        }
        matches!(self, Self::Task(_))
    }
}

/// A claim to be pursued.
#[derive(Clone)]
pub(super) struct Wish {
    pub(super) key: ClaimKey,
    pub(super) by: Claimant,
    pub(super) clean_start: bool,
    pub(super) session_expiry: u32,
    pub(super) will: Option<Will>,
    /// Since when it is.
    pub(super) since: Moment,
}

impl Sessions {
    /// Puts a claim into its shard's stream.
    pub(super) fn ask(&self, wish: Wish) {
        let (by, since) = (wish.by, wish.since);
        let (group, what) = proposal(self, &wish);
        let (sessions, again) = (self.clone(), wish.clone());
        let waiter = Box::new(move |answer: Answer| sessions.answered(wish, answer));
        match self.0.streams.entrust(by.life, group, what, Haste::Now, waiter) {
            Ok(ticket) => {
                // It may have been answered by now.
                if let Some(pursuit @ Pursuit::Begun) = self.0.registry.lock().pursuit(by) {
                    *pursuit = Pursuit::Proposed(group, ticket, since);
                }
            }
            Err(why) => self.answered(again, Err(why)),
        }
    }

    fn answered(&self, wish: Wish, answer: Answer) {
        match answer {
            Ok(Outcome::Granted { epoch, .. }) => granted(self, &wish, epoch, None),
            Ok(Outcome::GrantedSession { epoch, session }) => granted(self, &wish, epoch, Some(session)),
            Ok(Outcome::Refused(why)) => refused(self, wish.by, why),
            other => {
                let wake = Arc::new(Notify::new());
                if let Some(pursuit) = self.0.registry.lock().pursuit(wish.by) {
                    *pursuit = Pursuit::Task(wake.clone());
                }
                self.0.runtime.spawn(pursue(self.clone(), wish, wake, other));
            }
        }
    }

    /// Nobody wants the first proposal of a claim any more. If its answer is just being brought, it finds nobody.
    pub(super) fn withdraw(&self, key: ClaimKey, by: Claimant) {
        let proposed = match self.0.registry.lock().pursuit(by) {
            Some(Pursuit::Proposed(group, ticket, _)) => Some((*group, *ticket)),
            _ => None,
        };
        let known = proposed.is_some_and(|(group, ticket)| self.0.streams.take_back(group, ticket));
        if give_up(self, by) && known {
            let sessions = self.clone();
            self.0.runtime.spawn(async move { abandon(&sessions, &key, by).await });
        }
    }

    /// Ends the claims whose first proposals were not answered in time.
    pub(super) fn end_patience(&self, now: Moment) {
        let registry = self.0.registry.lock();
        let overdue = registry.unanswered().filter(|(_, _, pursuit)| match pursuit {
            Pursuit::Proposed(_, _, since) => now.since(*since) >= CLAIM_TIMEOUT - REST,
            Pursuit::Begun | Pursuit::Task(_) => false,
        });
        let overdue: Vec<_> = overdue.map(|(key, by, _)| (key.clone(), by)).collect();
        drop(registry);
        overdue.into_iter().for_each(|(key, by)| self.withdraw(key, by));
    }

    /// Tells the shard that a claim serves a connection that it does not know of.
    pub(super) fn renew(&self, key: ClaimKey, Grant { by, epoch }: Grant) {
        let group = self.0.meta.group_of(key.broker, &key.client);
        let what = Proposal::Renew { key, nonce: by.nonce, epoch };
        let sessions = self.clone();
        let waiter = Box::new(move |answer: Answer| sessions.renewed(by, answer));
        if let Err(why) = self.0.streams.entrust(by.life, group, what, Haste::Now, waiter) {
            self.renewed(by, Err(why));
        }
    }

    fn renewed(&self, by: Claimant, answer: Answer) {
        let epoch = match answer {
            Ok(Outcome::Granted { epoch, .. } | Outcome::GrantedSession { epoch, .. }) => Some(epoch),
            _ => None,
        };
        self.0.registry.lock().renewed(by, epoch);
    }
}

/// Asks until the claim is answered, its connection is gone, or time is up. `first` is what was answered so far.
async fn pursue(sessions: Sessions, wish: Wish, wake: Arc<Notify>, first: Answer) {
    // Whether the shard may know of the claim.
    let mut known = false;
    let left = (wish.since + CLAIM_TIMEOUT).since(sessions.0.clock.now());
    let asked = tokio::time::timeout(left, ask(&sessions, &wish, &wake, &mut known, first)).await;
    if asked.is_err() {
        debug!(client = %wish.key.client, "a claim was not answered in time");
    }
    if give_up(&sessions, wish.by) && known {
        abandon(&sessions, &wish.key, wish.by).await;
    }
}

async fn abandon(sessions: &Sessions, key: &ClaimKey, by: Claimant) {
    let_go(sessions, by.life, key, Proposal::Abandon { key: key.clone(), nonce: by.nonce }).await;
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

async fn ask(sessions: &Sessions, wish: &Wish, wake: &Notify, known: &mut bool, first: Answer) {
    let by = wish.by;
    let mut first = Some(first);
    // An answer that came says something also of a claim whose connection has gone.
    while first.is_some() || sessions.0.registry.lock().asking(by) == Asking::Yes {
        let answer = match first.take() {
            Some(answer) => answer,
            None => tokio::select! {
                answer = claim(sessions, wish, known) => answer,
                () = no_longer_asking(sessions, by, wake) => return,
            },
        };
        match answer {
            Ok(Outcome::Granted { epoch, .. }) => return granted(sessions, wish, epoch, None),
            Ok(Outcome::GrantedSession { epoch, session }) => return granted(sessions, wish, epoch, Some(session)),
            Ok(Outcome::Refused(why)) => return refused(sessions, by, why),
            Ok(Outcome::Waiting { .. } | Outcome::Done | Outcome::Subscriptions { .. }) => {
                *known = true;
                pause_while_asking(sessions, by, wake, ASK_AGAIN).await;
            }
            // The connection is still there: it claims anew, by what is known now.
            Ok(Outcome::Outdated { .. } | Outcome::Spent) => {}
            Ok(Outcome::Gap { .. }) | Err(ProposeError::Unavailable | ProposeError::Unknown) => {
                pause_while_asking(sessions, by, wake, RETRY).await;
            }
            Err(why @ (ProposeError::TooLarge | ProposeError::Stopped(_))) => {
                error!(client = %wish.key.client, %why, "a claim cannot be proposed");
                return refuse(sessions, by, ClaimRefusal::Unavailable);
            }
        }
    }
}

/// The shard refuses.
fn refused(sessions: &Sessions, by: Claimant, why: Refusal) {
    if why == Refusal::Full {
        sessions.0.stats.sessions_refused.fetch_add(1, Ordering::Relaxed);
    }
    refuse(sessions, by, refusal(why));
}

fn granted(sessions: &Sessions, wish: &Wish, epoch: Epoch, session: Option<SessionGrant>) {
    let act = sessions.0.registry.lock().granted(wish.key.clone(), wish.by, epoch, session);
    sessions.act(act);
}

/// The claim as it is proposed by what is known now, and to which shard.
fn proposal(sessions: &Sessions, wish: &Wish) -> (GroupId, Proposal) {
    let Wish { key, by, clean_start, session_expiry, will, .. } = wish;
    let group = sessions.0.meta.group_of(key.broker, &key.client);
    let heard = sessions.0.streams.heard(group).max(sessions.0.board.epoch(group));
    let (key, nonce) = (key.clone(), by.nonce);
    let (clean_start, session_expiry) = (*clean_start, *session_expiry);
    (group, Proposal::Claim { key, nonce, clean_start, session_expiry, heard, will: will.clone() })
}

async fn claim(sessions: &Sessions, wish: &Wish, known: &mut bool) -> Result<Outcome, ProposeError> {
    let (group, what) = proposal(sessions, wish);
    sessions.0.streams.propose(wish.by.life, group, what, known)?.outcome().await
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

async fn pause_while_asking(sessions: &Sessions, by: Claimant, wake: &Notify, limit: Duration) {
    if sessions.0.registry.lock().asking(by) == Asking::Yes {
        let _either = tokio::time::timeout(limit, wake.notified()).await;
    }
}

impl Sessions {
    /// Releases what no connection serves any more. Nothing waits here: the shard is told when it is the claim's turn.
    pub(super) fn give_back(&self, ending: Ending) {
        let Ending { key, by, epoch, leave, haste, renewing } = ending;
        let group = self.0.meta.group_of(key.broker, &key.client);
        let what = match renewing {
            true => Proposal::Abandon { key, nonce: by.nonce },
            false => Proposal::Release { key, nonce: by.nonce, epoch, leave },
        };
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
