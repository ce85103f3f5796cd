//! Sessions that outlive their connections, and wills: what workers have their shards store, and what a shard's leader has
//! its workers publish.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::Sessions;
use super::streams::CHANGE_OVERHEAD;
use crate::consensus::ProposeError;
use crate::handle::{ClaimEvent, ClusterEvent, Subscription};
use crate::ids::{BrokerId, ClientId, Epoch, GroupId, Nonce, WorkerId};
use crate::limits::{CLAIM_TIMEOUT, MAX_WILL_BYTES};
use crate::sessions::{ClaimKey, Claimant, Outcome, Proposal, ShardView};

/// Bytes of changed filters in one proposal. A filter above it is refused.
const CHANGES_BYTES: usize = MAX_WILL_BYTES;
/// Wills of all shards led here that are being published at one time; the others wait in their shards.
const WILLS_IN_FLIGHT: usize = 1024;
/// How long an answer of the shard is waited for.
const ANSWER_WITHIN: Duration = CLAIM_TIMEOUT;

/// Wills that this node publishes for the shards it leads.
#[derive(Default)]
pub(super) struct Wills {
    last: u64,
    by_token: BTreeMap<u64, (GroupId, ClaimKey, Epoch)>,
    /// The same, to be found by what the shard knows them by.
    tokens: BTreeMap<(GroupId, ClaimKey, Epoch), u64>,
}

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
                stored &= matches!(sessions.tell(&key, by, what).await, Ok(Outcome::Done | Outcome::Spent));
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

    /// As the leader of `group`: has what its state says is due published, and what others have published meanwhile
    /// forgotten.
    pub(super) fn publish_wills(&self, group: GroupId, view: &ShardView) {
        let mut wills = self.0.wills.lock();
        if view.firing.is_empty() && wills.by_token.is_empty() {
            return;
        }
        let Wills { by_token, tokens, .. } = &mut *wills;
        by_token.retain(|_, (of, key, epoch)| {
            let due = *of != group || view.firing.contains_key(&(key.clone(), *epoch));
            if !due {
                tokens.remove(&(*of, key.clone(), *epoch));
            }
            due
        });
        let mut posts = Vec::new();
        for ((key, epoch), message) in &view.firing {
            if wills.by_token.len() >= WILLS_IN_FLIGHT {
                break;
            }
            let name = (group, key.clone(), *epoch);
            if wills.tokens.contains_key(&name) {
                continue;
            }
            wills.last += 1;
            let token = wills.last;
            wills.by_token.insert(token, name.clone());
            wills.tokens.insert(name, token);
            posts.push(ClusterEvent::Will { token, broker: key.broker, message: message.clone() });
        }
        drop(wills);
        let workers = self.0.ports.read().len().max(1);
        for event in posts {
            let ClusterEvent::Will { token, .. } = &event else { continue };
            let worker = WorkerId((*token % workers as u64) as u16);
            self.post_any(worker, event);
        }
    }

    /// A will is published: it is not to be published again.
    pub fn will_published(&self, token: u64) {
        let Some((_, key, epoch)) = self.0.wills.lock().by_token.get(&token).cloned() else { return };
        let Some(life) = self.0.lease.life() else { return };
        let sessions = self.clone();
        self.0.runtime.spawn(async move {
            let by = Claimant { life, nonce: Nonce(0) };
            let what = Proposal::WillPublished { key: key.clone(), epoch };
            if let Err(why) = sessions.tell(&key, by, what).await {
                debug!(client = %key.client, %why, "a published will was not confirmed; its shard's leader publishes it again");
                sessions.forget_will(token);
            }
        });
    }

    fn forget_will(&self, token: u64) {
        let mut wills = self.0.wills.lock();
        if let Some(name) = wills.by_token.remove(&token) {
            wills.tokens.remove(&name);
        }
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
