//! The leader's side of each shard led here: sends notices, ends lives in the shard, lets shard time pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{debug, error};

use super::Sessions;
use super::board::News;
use super::forget::LOOK_EVERY;
use super::pace::Pace;
use crate::clock::Moment;
use crate::control::{Notice, NoticeKind, Notices};
use crate::ids::{Epoch, GroupId, NodeId, NodeLife, Nonce};
use crate::limits::{CLAIM_RESEND, LEASE};
use crate::sessions::{ClaimKey, Claimant, Command, Effect, Revocation, ShardView};

/// A revocation not carried out for this long is reported (R4). Long enough for a leader of group 0 to change
/// and for a release to find a leader of the shard.
const STUCK_AFTER: Duration = LEASE.saturating_mul(2);
/// What this node remembers as the leader of shards. Lost with the leadership, and none of it is needed.
struct Shepherd {
    sessions: Sessions,
    sent: BTreeMap<(GroupId, ClaimKey), Sent>,
    /// Lives whose end is being proposed to a shard.
    ending: tokio::task::JoinSet<(GroupId, NodeLife)>,
    in_flight: BTreeSet<(GroupId, NodeLife)>,
    /// At most one task that removes what deleted brokers left, and when it was last looked for that.
    forgetting: tokio::task::JoinSet<()>,
    looked: Moment,
    pace: Pace,
}

/// A revocation that was sent.
struct Sent {
    epoch: Epoch,
    first: Moment,
    last: Moment,
}

/// Runs for ever.
pub(super) async fn run(sessions: Sessions) {
    let (sent, ending, in_flight, forgetting, looked, pace) = Default::default();
    let mut shepherd = Shepherd { sessions, sent, ending, in_flight, forgetting, looked, pace };
    let mut resend = tokio::time::interval(CLAIM_RESEND);
    resend.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = shepherd.sessions.0.meta.applied();
    loop {
        let it = shepherd.sessions.0.clone();
        tokio::select! {
            () = it.board.changed() => shepherd.on_news(),
            () = it.meta.changed(seen) => {
                seen = it.meta.applied();
                shepherd.on_metadata();
            }
            Some(ended) = shepherd.ending.join_next() => {
                if let Ok(ended) = ended {
                    shepherd.in_flight.remove(&ended);
                }
            }
            _ = resend.tick() => shepherd.on_tick(),
        }
    }
}

impl Shepherd {
    fn now(&self) -> Moment {
        self.sessions.0.clock.now()
    }

    fn leads(&self, group: GroupId) -> bool {
        self.sessions.0.consensus.status(group).leads
    }

    fn on_news(&mut self) {
        let mut notices = Vec::new();
        for News { group, view, effects } in self.sessions.0.board.news() {
            if !self.leads(group) {
                continue;
            }
            for effect in effects {
                self.note(group, &effect);
                notices.push(notice(effect));
            }
            self.sessions.publish_wills(group, &view);
            self.end_lives(group, &view);
        }
        self.send(notices);
    }

    fn on_metadata(&mut self) {
        for (group, view) in self.sessions.0.board.views() {
            if self.leads(group) {
                self.end_lives(group, &view);
            }
        }
    }

    fn on_tick(&mut self) {
        let now = self.now();
        let mut notices = Vec::new();
        let views = self.sessions.0.board.views();
        let led: BTreeMap<GroupId, ShardView> = views.into_iter().filter(|(group, _)| self.leads(*group)).collect();
        self.sessions.leave_wills(|group| led.contains_key(&group));
        self.sent.retain(|(group, key), sent| {
            let pending = led.get(group).and_then(|view| view.pending.get(key));
            pending.is_some_and(|p| p.epoch == sent.epoch)
        });
        for (group, view) in &led {
            for (key, revocation) in &view.pending {
                notices.extend(self.again(*group, key, *revocation, now));
            }
            self.sessions.publish_wills(*group, view);
            self.end_lives(*group, view);
        }
        for group in self.pace.due(now, &led) {
            self.tick(group, now);
        }
        self.forget(now, &led);
        self.report_stuck(now, &led);
        self.send(notices);
    }

    /// Remembers a revocation that is sent now.
    fn note(&mut self, group: GroupId, effect: &Effect) {
        if let Effect::Revoke { key, epoch, .. } = effect {
            let now = self.now();
            self.sent.insert((group, key.clone()), Sent { epoch: *epoch, first: now, last: now });
        }
    }

    /// The notice of a revocation, if it was not sent yet or is due again.
    fn again(&mut self, group: GroupId, key: &ClaimKey, revocation: Revocation, now: Moment) -> Option<Notice> {
        let Revocation { holder, epoch, .. } = revocation;
        let first = Sent { epoch, first: now, last: now };
        let sent = match self.sent.entry((group, key.clone())) {
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(first);
                None
            }
            std::collections::btree_map::Entry::Occupied(old) => Some(old.into_mut()),
        };
        if let Some(sent) = sent {
            if now.since(sent.last) < CLAIM_RESEND {
                return None;
            }
            sent.last = now;
            self.sessions.0.stats.revocations_resent.fetch_add(1, Ordering::Relaxed);
        }
        Some(Notice { to: holder, key: key.clone(), kind: NoticeKind::Revoked { epoch } })
    }

    /// Tells the shard of lives that its claims name and group 0 has ended.
    fn end_lives(&mut self, group: GroupId, view: &ShardView) {
        let meta = &self.sessions.0.meta;
        let named = view.lives.keys().filter(|life| !view.has_ended(**life) && meta.has_ended(**life));
        // Ascending, so that of each node the last of its ended lives stays.
        let last: BTreeMap<NodeId, NodeLife> = named.map(|life| (life.node, *life)).collect();
        for life in last.into_values() {
            if self.in_flight.insert((group, life)) {
                let consensus = self.sessions.0.consensus.clone();
                self.ending.spawn(async move {
                    let command = Command::Expire { life }.encode();
                    if let Err(why) = consensus.propose(group, command).await {
                        debug!(%group, %life, %why, "a life's end was not committed to a shard");
                    }
                    (group, life)
                });
            }
        }
    }

    fn forget(&mut self, now: Moment, led: &BTreeMap<GroupId, ShardView>) {
        while self.forgetting.try_join_next().is_some() {}
        if now.since(self.looked) < LOOK_EVERY || !self.forgetting.is_empty() {
            return;
        }
        self.looked = now;
        let strangers = self.sessions.strangers(led);
        if !strangers.is_empty() {
            self.forgetting.spawn(self.sessions.clone().forget_deleted(strangers));
        }
    }

    fn tick(&self, group: GroupId, now: Moment) {
        let Some(by) = self.sessions.0.lease.life() else { return };
        let millis = u64::try_from(now.0.as_millis()).unwrap_or(u64::MAX);
        let consensus = self.sessions.0.consensus.clone();
        // Not sent again if it fails: the next one counts for both.
        #[expect(clippy::disallowed_methods, reason = "one proposal, which gives up by itself")]
        tokio::spawn(async move { consensus.propose(group, Command::Tick { by, millis }.encode()).await });
    }

    fn report_stuck(&mut self, now: Moment, led: &BTreeMap<GroupId, ShardView>) {
        let mut stuck: BTreeMap<NodeLife, GroupId> = BTreeMap::new();
        for ((group, key), sent) in &mut self.sent {
            if now.since(sent.first) < STUCK_AFTER {
                continue;
            }
            sent.first = now;
            let Some(revocation) = led.get(group).and_then(|view| view.pending.get(key)) else { continue };
            let life = revocation.holder.life;
            self.sessions.0.stats.revocations_stuck.fetch_add(1, Ordering::Relaxed);
            error!(%group, %life, client = %key.client, "a revocation is not carried out");
            stuck.insert(life, *group);
        }
        for (life, group) in stuck {
            if !self.sessions.0.meta.has_ended(life) {
                #[expect(clippy::disallowed_methods, reason = "one proposal, which gives up by itself")]
                tokio::spawn(report(self.sessions.clone(), life, group));
            }
        }
    }

    fn send(&self, notices: Vec<Notice>) {
        let mut by_node: BTreeMap<NodeId, Vec<Notice>> = BTreeMap::new();
        for notice in notices {
            by_node.entry(notice.to.life.node).or_default().push(notice);
        }
        for (node, notices) in by_node {
            if node == self.sessions.0.node {
                self.sessions.notices(notices);
            } else {
                let dropped = self.sessions.0.courier.send(node, notices);
                self.sessions.0.stats.notices_dropped.fetch_add(dropped as u64, Ordering::Relaxed);
            }
        }
    }
}

/// Reports `life` to the metadata leader, if this node is sure to lead `group`: else releases may have been
/// committed that it does not know of.
async fn report(sessions: Sessions, life: NodeLife, group: GroupId) {
    let it = &sessions.0;
    if it.consensus.confirm_leadership(group).await.is_err() {
        return;
    }
    let result = match it.consensus.status(GroupId::METADATA).leader {
        Some(leader) if leader == it.node => {
            it.lease.stuck(life, it.node);
            Ok(())
        }
        Some(leader) => it.control.report_stuck(leader, life).await,
        None => Err(crate::control::ControlError::Unreachable),
    };
    if let Err(why) = result {
        debug!(%life, %why, "a stuck node was not reported; it will be again");
    }
}

fn notice(effect: Effect) -> Notice {
    match effect {
        Effect::Revoke { key, holder, epoch } => Notice { to: holder, key, kind: NoticeKind::Revoked { epoch } },
        Effect::Grant { key, to, epoch, session } => Notice { to, key, kind: NoticeKind::Granted { epoch, session } },
        Effect::Discard { key, session, home } => {
            // To no connection, but to a worker of a life.
            let to = Claimant { life: home.life, nonce: Nonce(0) };
            Notice { to, key, kind: NoticeKind::Discard { session, worker: home.worker } }
        }
        Effect::Refuse { key, to, why } => Notice { to, key, kind: NoticeKind::Refused(why) },
    }
}
