//! Sessions that outlive their connections, and wills: what workers have their shards store, and what a shard's leader has
//! its workers publish.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::debug;

use super::Sessions;
use super::sizes::CHANGE_OVERHEAD;
use crate::consensus::ProposeError;
use crate::handle::{ClaimEvent, ClusterEvent, FiringWill, Subscription};
use crate::ids::{BrokerId, ClientId, Epoch, GroupId, Nonce, WillName, WorkerId};
use crate::limits::{CLAIM_TIMEOUT, MAX_WILL_BYTES};
use crate::retained::Time;
use crate::sessions::{ClaimKey, Claimant, Outcome, Proposal, Refusal, ShardView};

/// Bytes of changed filters in one proposal. A filter above it is refused.
const CHANGES_BYTES: usize = MAX_WILL_BYTES;
/// Pause before a confirmation that was not committed is proposed again.
const CONFIRM_AGAIN: Duration = Duration::from_millis(250);
/// How long an answer of the shard is waited for.
const ANSWER_WITHIN: Duration = CLAIM_TIMEOUT;

impl Sessions {
    /// Has the session's shard store changes of its subscriptions, `None` for one that is gone; answered by
    /// [`ClaimEvent::Persisted`].
    pub fn persist(
        &self,
        broker: BrokerId,
        client: ClientId,
        epoch: Epoch,
        nonce: Nonce,
        token: u64,
        changes: Vec<(Arc<str>, Option<u64>)>,
    ) {
        let Some((by, worker)) = self.0.registry.lock().holder(nonce) else { return };
        let key = ClaimKey { broker, client };
        let sessions = self.clone();
        self.0.runtime.spawn(async move {
            let mut stored = true;
            for changes in portions(changes) {
                let what = Proposal::Subscribe { key: key.clone(), nonce, epoch, changes };
                match sessions.tell(&key, by, what).await {
                    Ok(Outcome::Done | Outcome::Spent) => {}
                    Ok(Outcome::Refused(Refusal::Full)) => {
                        sessions.0.stats.filters_refused.fetch_add(1, Ordering::Relaxed);
                        return sessions.post(worker, ClaimEvent::NoRoom { nonce, token });
                    }
                    _ => stored = false,
                }
            }
            sessions.post(worker, ClaimEvent::Persisted { nonce, token, stored });
        });
    }

    /// Asks the session's shard for its subscriptions; answered by [`ClaimEvent::Recalled`].
    pub fn recall(&self, broker: BrokerId, client: ClientId, nonce: Nonce) {
        let Some((by, worker)) = self.0.registry.lock().holder(nonce) else { return };
        let sessions = self.clone();
        self.0.runtime.spawn(async move {
            let subscriptions = sessions.recall_all(&ClaimKey { broker, client }, by).await;
            sessions.post(worker, ClaimEvent::Recalled { nonce, subscriptions });
        });
    }

    async fn recall_all(&self, key: &ClaimKey, by: Claimant) -> Option<Vec<Subscription>> {
        let mut all: Vec<Subscription> = Vec::new();
        loop {
            let after = all.last().map(|(filter, _)| filter.clone());
            let what = Proposal::Recall { key: key.clone(), nonce: by.nonce, after };
            match self.tell(key, by, what).await {
                Ok(Outcome::Subscriptions { subscriptions, more }) => {
                    all.extend(subscriptions);
                    if !more {
                        return Some(all);
                    }
                }
                _ => return None,
            }
        }
    }

    async fn tell(&self, key: &ClaimKey, by: Claimant, what: Proposal) -> Result<Outcome, ProposeError> {
        let group = self.0.meta.group_of(key.broker, &key.client);
        let mut known = false;
        let mut pending = self.0.streams.propose(by.life, group, what, &mut known)?;
        tokio::time::timeout(ANSWER_WITHIN, pending.outcome()).await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// As the leader of `group`: has what its state says is due published, and forgets what the state knows of by now.
    pub(super) fn publish_wills(&self, group: GroupId, view: &ShardView) {
        let due = self.0.wills.lock().due(group, view);
        if !due.is_empty() {
            self.0.runtime.spawn(self.clone().post_wills(group, due));
        }
    }

    /// This node leads other shards than these no more: their leaders publish what is due there.
    pub(super) fn leave_wills(&self, led: impl Fn(GroupId) -> bool) {
        self.0.wills.lock().keep_led(led);
    }

    /// A leader may have been elected without having applied all confirmations: what is due is looked at once more when it
    /// is sure to lead and to know them.
    async fn post_wills(self, group: GroupId, due: Vec<(u64, ClaimKey, Epoch)>) {
        let known = self.0.consensus.linearize(group).await.is_ok() && self.0.consensus.status(group).leads;
        let view = self.0.board.view(group).filter(|_| known);
        let workers = self.0.ports.read().len().max(1);
        for (token, key, epoch) in due {
            let broker = key.broker;
            let name = (key, epoch);
            let firing = view.as_ref().and_then(|view| {
                let time = view.will_times.get(&name).map(|time| Time(*time));
                let message = view.firing.get(&name)?.clone();
                Some(FiringWill { name: WillName { shard: group, epoch }, time, message })
            });
            match firing {
                Some(will) => {
                    let worker = WorkerId((token % workers as u64) as u16);
                    self.post_any(worker, ClusterEvent::Will { token, broker, will });
                }
                None => self.forget_will(token),
            }
        }
    }

    /// A will was not published, as this node may not serve now: it is tried again, or another node leads by then.
    pub fn will_refused(&self, token: u64) {
        self.forget_will(token);
    }

    /// A will that is retained is to be written at `time`, by whoever publishes it: it comes to a worker once more when
    /// that is committed.
    pub fn will_timed(&self, token: u64, time: Time) {
        let Some((group, key, epoch)) = self.0.wills.lock().name(token) else { return };
        let Some(life) = self.0.lease.life() else { return self.forget_will(token) };
        let sessions = self.clone();
        // One task for each will in flight.
        self.0.runtime.spawn(async move {
            let by = Claimant { life, nonce: Nonce(0) };
            let what = Proposal::WillTimed { key: key.clone(), epoch, time: time.0 };
            match sessions.tell(&key, by, what).await {
                Ok(_) => sessions.post_wills(group, vec![(token, key, epoch)]).await,
                Err(why) => {
                    debug!(client = %key.client, %why, "a will's time is not decided yet");
                    sessions.forget_will(token);
                }
            }
        });
    }

    /// A will is published: it is not to be published again.
    pub fn will_published(&self, token: u64) {
        let Some((group, key, epoch)) = self.0.wills.lock().name(token) else { return };
        let sessions = self.clone();
        // One task for each will in flight.
        self.0.runtime.spawn(async move {
            while sessions.0.consensus.status(group).leads {
                let Some(life) = sessions.0.lease.life() else { break };
                let by = Claimant { life, nonce: Nonce(0) };
                let what = Proposal::WillPublished { key: key.clone(), epoch };
                match sessions.tell(&key, by, what).await {
                    Ok(_) => return sessions.0.wills.lock().confirmed(token),
                    Err(why) => debug!(client = %key.client, %why, "a published will is not confirmed yet"),
                }
                tokio::time::sleep(CONFIRM_AGAIN).await;
            }
            sessions.forget_will(token);
        });
    }

    fn forget_will(&self, token: u64) {
        self.0.wills.lock().forget(token);
    }
}

/// The changes in pieces that fit into a proposal each.
fn portions(changes: Vec<(Arc<str>, Option<u64>)>) -> Vec<Vec<(Arc<str>, Option<u64>)>> {
    let mut portions: Vec<Vec<_>> = Vec::new();
    let mut bytes = usize::MAX;
    for change in changes {
        let size = change.0.len() + CHANGE_OVERHEAD;
        match portions.last_mut() {
            Some(portion) if bytes.saturating_add(size) <= CHANGES_BYTES => {
                portion.push(change);
                bytes += size;
            }
            _ => {
                portions.push(vec![change]);
                bytes = size;
            }
        }
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_changes_are_proposed_in_pieces() {
        let filter = |n: usize| -> Arc<str> { format!("{n}/{}", "x".repeat(10_000)).into() };
        let pieces = portions((0..9).map(|n| (filter(n), Some(1))).collect());
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 1]);
        assert_eq!(portions(Vec::new()), Vec::<Vec<_>>::new());
        assert_eq!(portions(vec![("x".repeat(CHANGES_BYTES).into(), None)]).len(), 1, "refused when it is proposed");
    }
}
