//! The glue of the leader's side of each shard: notices, ends of lives, shard time; as `claims::shepherd` has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rookery_cluster::claims::pace::Pace;
use rookery_cluster::claims::wills::Wills;
use rookery_cluster::clock::Moment;
use rookery_cluster::control::{Notice, NoticeKind};
use rookery_cluster::ids::{Epoch, GroupId, NodeId, NodeLife, Nonce};
use rookery_cluster::limits::{CLAIM_RESEND, LEASE};
use rookery_cluster::sessions::{ClaimKey, Claimant, Command, Effect, Revocation, ShardView};

use crate::world::{Proc, World};

const STUCK_AFTER: Duration = LEASE.saturating_mul(2);

#[derive(Default)]
pub struct Shepherd {
    sent: BTreeMap<(GroupId, ClaimKey), Sent>,
    in_flight: BTreeSet<(GroupId, NodeLife)>,
    pace: Pace,
    pub wills: Wills,
    /// Revocations sent again, and lives reported stuck.
    pub resent: u64,
    pub reported: u64,
}

struct Sent {
    epoch: Epoch,
    first: Moment,
    last: Moment,
}

impl World {
    pub fn start_shepherd(&mut self, at: Proc) {
        self.later(at, CLAIM_RESEND, move |w| {
            w.shepherd_tick(at);
            w.end_rest(at);
            w.start_shepherd(at);
        });
    }

    /// What shards' commands led to on this replica: sent if it leads.
    pub fn shard_news(&mut self, node: NodeId) {
        let effects = std::mem::take(&mut self.node(node).effects);
        let now = self.local(node);
        let mut notices = Vec::new();
        for (group, effect) in effects {
            if self.leads(node, group).is_none() {
                continue;
            }
            self.note(|| format!("node {node}: shard {group}: {effect:?}"));
            if let Effect::Revoke { key, epoch, .. } = &effect {
                let sent = Sent { epoch: *epoch, first: now, last: now };
                self.node(node).claims.shepherd.sent.insert((group, key.clone()), sent);
            }
            notices.push(notice(effect));
        }
        self.send_notices(node, notices);
        for (group, view) in self.led(node) {
            self.publish_wills(node, group, &view);
            self.end_lives(node, group, &view);
        }
    }

    pub fn shepherd_metadata(&mut self, node: NodeId) {
        for (group, view) in self.led(node) {
            self.end_lives(node, group, &view);
        }
    }

    fn led(&mut self, node: NodeId) -> BTreeMap<GroupId, ShardView> {
        if !self.node(node).up {
            return BTreeMap::new();
        }
        let groups: Vec<GroupId> = self.groups.keys().copied().filter(|g| *g != GroupId::METADATA).collect();
        let led: Vec<GroupId> = groups.into_iter().filter(|g| self.leads(node, *g).is_some()).collect();
        let shards = &mut self.node(node).shards;
        led.into_iter().map(|group| (group, shards.entry(group).or_default().view())).collect()
    }

    fn shepherd_tick(&mut self, at: Proc) {
        let now = self.local(at.node);
        let led = self.led(at.node);
        let life = self.node(at.node).lease.life;
        let shepherd = &mut self.node(at.node).claims.shepherd;
        shepherd.wills.keep_led(|group| led.contains_key(&group));
        let ticks = shepherd.pace.due(now, &led);
        shepherd.sent.retain(|(group, key), sent| {
            let pending = led.get(group).and_then(|view| view.pending.get(key));
            pending.is_some_and(|p| p.epoch == sent.epoch)
        });
        let mut notices = Vec::new();
        for (group, view) in &led {
            for (key, revocation) in &view.pending {
                notices.extend(shepherd.again(*group, key, *revocation, now));
            }
        }
        for (group, view) in &led {
            self.publish_wills(at.node, *group, view);
            self.end_lives(at.node, *group, view);
        }
        if let Some(by) = life {
            let millis = now.0.as_millis() as u64;
            for group in ticks {
                self.propose(at, group, Command::Tick { by, millis }.encode(), |_, _| {});
            }
        }
        self.report_stuck(at, now, &led);
        self.send_notices(at.node, notices);
    }

    /// Tells the shard of lives that its claims name and group 0 has ended.
    fn end_lives(&mut self, node: NodeId, group: GroupId, view: &ShardView) {
        let meta = &self.node(node).meta;
        let named = view.lives.keys().filter(|life| !view.has_ended(**life) && meta.is_expired(**life));
        let last: BTreeMap<NodeId, NodeLife> = named.map(|life| (life.node, *life)).collect();
        let at = self.proc(node);
        for life in last.into_values() {
            if self.node(node).claims.shepherd.in_flight.insert((group, life)) {
                self.propose(at, group, Command::Expire { life }.encode(), move |w, _| {
                    w.node(node).claims.shepherd.in_flight.remove(&(group, life));
                });
            }
        }
    }

    fn report_stuck(&mut self, at: Proc, now: Moment, led: &BTreeMap<GroupId, ShardView>) {
        let mut stuck: BTreeMap<NodeLife, GroupId> = BTreeMap::new();
        for ((group, key), sent) in &mut self.node(at.node).claims.shepherd.sent {
            if now.since(sent.first) < STUCK_AFTER {
                continue;
            }
            sent.first = now;
            let Some(revocation) = led.get(group).and_then(|view| view.pending.get(key)) else { continue };
            stuck.insert(revocation.holder.life, *group);
        }
        for (life, group) in stuck {
            if self.node(at.node).meta.is_expired(life) {
                continue;
            }
            self.confirm_leadership(at, group, move |w, sure| {
                let leader = w.replica(at.node, GroupId::METADATA).leader;
                if let (true, Some(leader)) = (sure, leader) {
                    w.node(at.node).claims.shepherd.reported += 1;
                    w.note(|| format!("node {}: {life} is stuck", at.node));
                    w.datagram(at.node, leader, "stuck", move |w| w.node(leader).lease.table.stuck(life));
                }
            });
        }
    }

    fn send_notices(&mut self, from: NodeId, notices: Vec<Notice>) {
        for notice in notices {
            let to = notice.to.life.node;
            self.datagram(from, to, kind(&notice), move |w| w.take_notices(to, vec![notice]));
        }
    }
}

impl Shepherd {
    /// The notice of a revocation, if it was not sent yet or is due again.
    fn again(&mut self, group: GroupId, key: &ClaimKey, revocation: Revocation, now: Moment) -> Option<Notice> {
        let Revocation { holder, epoch, .. } = revocation;
        let at = (group, key.clone());
        if let Some(sent) = self.sent.get_mut(&at) {
            if now.since(sent.last) < CLAIM_RESEND {
                return None;
            }
            sent.last = now;
            self.resent += 1;
        } else {
            self.sent.insert(at, Sent { epoch, first: now, last: now });
        }
        Some(Notice { to: holder, key: key.clone(), kind: NoticeKind::Revoked { epoch } })
    }
}

fn kind(notice: &Notice) -> &'static str {
    match notice.kind {
        NoticeKind::Granted { .. } => "granted",
        NoticeKind::Revoked { .. } => "revoked",
        NoticeKind::Refused(_) => "refused",
        NoticeKind::Discard { .. } => "discard",
    }
}

fn notice(effect: Effect) -> Notice {
    match effect {
        Effect::Revoke { key, holder, epoch } => Notice { to: holder, key, kind: NoticeKind::Revoked { epoch } },
        Effect::Grant { key, to, epoch, session } => Notice { to, key, kind: NoticeKind::Granted { epoch, session } },
        Effect::Discard { key, session, home } => {
            let to = Claimant { life: home.life, nonce: Nonce(0) };
            Notice { to, key, kind: NoticeKind::Discard { session, worker: home.worker } }
        }
        Effect::Refuse { key, to, why } => Notice { to, key, kind: NoticeKind::Refused(why) },
    }
}
