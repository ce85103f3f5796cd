//! The node's numbers as metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;
use rookery_cluster::claims::Sessions;
use rookery_cluster::forward::Forward;
use rookery_cluster::leases::driver::Lease;
use rookery_cluster::retained::store::Store;

use super::admin::Admin;
use crate::api::ClusterView;
use crate::auth::Verifier;
use crate::broker::{Accountant, WorkerStats};
use crate::listeners::reload::ReloadStats;
use crate::listeners::{Counters, ListenerStats};
use crate::telemetry::{Health, Page};

/// Where metrics come from.
pub struct NodeHealth {
    pub admin: Arc<Admin>,
    pub lease: Lease,
    pub sessions: Sessions,
    pub verifier: Verifier,
    /// What serves clients, while it does.
    pub life: RwLock<Option<LifeStats>>,
}

/// Counters of what serves clients.
pub struct LifeStats {
    pub workers: Vec<WorkerStats>,
    pub forward: Forward,
    pub listeners: Counters,
    pub reloads: Option<Arc<ReloadStats>>,
    pub accountant: Arc<Accountant>,
    pub retained: Store,
}

impl Health for NodeHealth {
    fn ready(&self) -> Result<(), String> {
        self.admin.ready()
    }

    fn metrics(&self, page: &mut Page) {
        page.gauge("rookery_ready", "Whether this node serves clients.", u8::from(self.ready().is_ok()));
        self.cluster(page);
        if let Some(life) = &*self.life.read() {
            workers(life, page);
            forward(&life.forward, page);
            listeners(&life.listeners, page);
            reloads(life.reloads.as_deref(), page);
            buffers(&life.accountant, page);
            retained(&life.retained, page);
        }
    }
}

impl NodeHealth {
    fn cluster(&self, page: &mut Page) {
        let groups = self.admin.groups();
        let label = |id: u32| [("group", id.to_string())];
        page.gauges(
            "rookery_raft_leads",
            "Whether this node leads the Raft group.",
            groups.iter().map(|(id, status)| (label(id.0), u8::from(status.leads))),
        );
        page.gauges(
            "rookery_raft_applied",
            "Last index of the Raft group that was applied here.",
            groups.iter().map(|(id, status)| (label(id.0), status.applied.0)),
        );
        page.gauges(
            "rookery_raft_stopped",
            "Whether this node's replica of the group has stopped, which needs a person.",
            groups.iter().map(|(id, status)| (label(id.0), u8::from(status.stopped.is_some()))),
        );
        let lease = self.lease.stats();
        let claims = self.sessions.stats();
        let count = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
        page.counter("rookery_lease_lapsed_total", "Times that this node's lease lapsed.", count(&lease.lapsed));
        page.counter(
            "rookery_lease_stuck_workers_total",
            "Lease renewals not sent because a worker stood still.",
            count(&lease.stuck_workers),
        );
        let (recognised, checked) = self.verifier.counts();
        page.counters(
            "rookery_tokens_total",
            "Tokens of clients that were admitted as known to be genuine, and those whose signatures were checked.",
            [("recognised", recognised), ("checked", checked)].map(|(how, n)| ([("how", how.to_owned())], n)),
        );
        page.counter("rookery_claims_total", "Claims on client IDs by this node's connections.", count(&claims.claims));
        let full = [("session", &claims.sessions_refused), ("filters", &claims.filters_refused)];
        page.counters(
            "rookery_sessions_refused_total",
            "Sessions, and subscriptions of sessions, refused because their broker has all that it may.",
            full.map(|(what, n)| ([("what", what.to_owned())], count(n))),
        );
        let inherited = "Connections that went on with the claim of their client's last one.";
        page.counter("rookery_claims_inherited_total", inherited, count(&claims.inherited));
        page.counter("rookery_claims_timed_out_total", "Claims without an answer in time.", count(&claims.timed_out));
        page.counter(
            "rookery_revocations_stuck_total",
            "Takeovers that the holder did not carry out in time.",
            count(&claims.revocations_stuck),
        );
    }
}

fn workers(life: &LifeStats, page: &mut Page) {
    let stats: Vec<_> = life.workers.iter().map(WorkerStats::read).collect();
    let sum = |of: fn(&crate::broker::core::Stats) -> u64| stats.iter().map(|(s, _)| of(s)).sum::<u64>();
    page.gauges(
        "rookery_connections",
        "Connections of clients, by worker.",
        stats.iter().enumerate().map(|(id, (_, n))| ([("worker", id.to_string())], *n)),
    );
    page.counter("rookery_connections_opened_total", "Connections taken over.", sum(|s| s.connections_opened));
    page.counter("rookery_clients_admitted_total", "Clients admitted.", sum(|s| s.clients_admitted));
    page.counter("rookery_publishes_received_total", "PUBLISH packets from clients.", sum(|s| s.publishes_received));
    page.counter("rookery_payload_bytes_received_total", "Their payload.", sum(|s| s.payload_bytes_received));
    page.counter("rookery_publishes_delivered_total", "PUBLISH packets to clients.", sum(|s| s.publishes_delivered));
    page.counter(
        "rookery_publishes_forwarded_total",
        "Publishes handed to other workers and nodes.",
        sum(|s| s.publishes_forwarded),
    );
    page.counter(
        "rookery_publishers_paused_total",
        "Times that a publisher was read no further because its broker's share towards a destination was used up.",
        sum(|s| s.publishers_paused),
    );
    page.counter(
        "rookery_publishes_redelivered_total",
        "Publishes of shared subscriptions that went to another member, because the first was gone.",
        sum(|s| s.publishes_redelivered),
    );
    page.counter("rookery_barrier_timeouts_total", "SUBACK barriers that timed out.", sum(|s| s.barrier_timeouts));
    page.counter("rookery_protocol_errors_total", "Malformed packets and protocol errors.", sum(|s| s.protocol_errors));
    let mut dropped = std::collections::BTreeMap::<&str, u64>::new();
    let (mut refused, mut sent) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
    let mut publishes_refused = std::collections::BTreeMap::new();
    for (s, _) in &stats {
        s.dropped.iter().for_each(|(why, n)| *dropped.entry(why.label()).or_default() += n);
        s.clients_refused.iter().for_each(|(code, n)| *refused.entry(*code).or_insert(0) += n);
        s.publishes_refused.iter().for_each(|(code, n)| *publishes_refused.entry(*code).or_insert(0) += n);
        s.disconnects_sent.iter().for_each(|(code, n)| *sent.entry(*code).or_insert(0) += n);
    }
    let mut offences = std::collections::BTreeMap::<&str, u64>::new();
    stats.iter().flat_map(|(s, _)| &s.transport_errors).for_each(|(why, n)| *offences.entry(why).or_default() += n);
    let reason = |(why, n): (&str, u64)| ([("reason", why.to_owned())], n);
    page.counters(
        "rookery_websocket_errors_total",
        "Connections ended because the client broke WebSocket's rules, by reason.",
        offences.into_iter().map(reason),
    );
    page.counters(
        "rookery_publishes_dropped_total",
        "Publishes not delivered, by reason.",
        dropped.into_iter().map(reason),
    );
    let code = |(code, n): (u8, u64)| ([("code", format!("{code:#04x}"))], n);
    page.counters(
        "rookery_clients_refused_total",
        "CONNACKs with a refusal, by reason code.",
        refused.into_iter().map(code),
    );
    page.counters(
        "rookery_publishes_refused_total",
        "PUBACKs and PUBRECs with a refusal, by reason code.",
        publishes_refused.into_iter().map(code),
    );
    page.counters(
        "rookery_disconnects_total",
        "Connections ended by the server, by reason code.",
        sent.into_iter().map(code),
    );
}

fn buffers(accountant: &Accountant, page: &mut Page) {
    page.gauge("rookery_buffered_bytes", "Bytes that wait on this node, of all brokers.", accountant.total());
    page.gauges(
        "rookery_broker_buffered_bytes",
        "Bytes that wait on this node, by broker; of brokers with a MiB or more.",
        accountant.large().into_iter().map(|(broker, bytes)| ([("broker", broker.to_string())], bytes)),
    );
}

fn forward(forward: &Forward, page: &mut Page) {
    let stats = forward.stats();
    page.counters(
        "rookery_forward_total",
        "What the streams between nodes did.",
        stats.named().into_iter().map(|(what, n)| ([("what", what.to_owned())], n)),
    );
}

fn listeners(counters: &Counters, page: &mut Page) {
    let all = counters.read();
    let mut counter = |name, help, of: fn(&ListenerStats) -> u64| {
        page.counters(name, help, all.iter().map(|(at, stats)| ([("listener", (*at).to_owned())], of(stats))));
    };
    counter("rookery_listener_accepted_total", "Sockets accepted.", |s| s.accepted);
    counter("rookery_listener_handed_over_total", "Of these, those that became connections.", |s| s.handed_over);
    counter("rookery_listener_resumed_total", "TLS sessions that were resumed.", |s| s.resumed);
    counter("rookery_listener_accept_errors_total", "Errors of accept itself.", |s| s.accept_errors);
    let labels = |at: &str, why: &str| [("listener", at.to_owned()), ("reason", why.to_owned())];
    page.counters(
        "rookery_listener_refused_total",
        "Sockets closed at once, by reason.",
        all.iter().flat_map(|(at, s)| s.refused.iter().map(move |(why, n)| (labels(at, why.label()), *n))),
    );
    page.counters(
        "rookery_listener_handshake_failures_total",
        "Sockets lost in the handshake, by reason.",
        all.iter().flat_map(|(at, s)| s.handshake_failures.iter().map(move |(why, n)| (labels(at, why.label()), *n))),
    );
}

fn reloads(stats: Option<&ReloadStats>, page: &mut Page) {
    let Some(stats) = stats else { return };
    let of =
        |result: &str, n: &std::sync::atomic::AtomicU64| ([("result", result.to_owned())], n.load(Ordering::Relaxed));
    page.counters(
        "rookery_certificate_reloads_total",
        "Changed certificate files, taken into use or refused.",
        [of("taken", &stats.taken), of("refused", &stats.refused)],
    );
}

fn retained(store: &Store, page: &mut Page) {
    let (totals, stats) = (store.totals(), store.stats());
    page.gauge("rookery_retained_messages", "Retained messages of all brokers.", totals.messages);
    page.gauge("rookery_retained_tombstones", "Removed ones that are remembered.", totals.records - totals.messages);
    page.gauge("rookery_retained_bytes", "Bytes of retained messages and their topics.", totals.bytes);
    let what = [
        ("taken", stats.taken),
        ("batches_written", stats.batches),
        ("rewritten", stats.rewritten),
        ("disk_errors", stats.disk_errors),
        ("expired", stats.expired),
        ("buried", stats.buried),
        ("refused_clock_ahead", stats.refused_ahead),
    ];
    page.counters(
        "rookery_retained_total",
        "What the store of retained messages did.",
        what.into_iter().map(|(what, n)| ([("what", what.to_owned())], n)),
    );
}
