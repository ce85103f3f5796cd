//! What clients do, at random.

use std::time::Duration;

use rookery::mqtt::codec::{QoS, Version};
use rookery_cluster::ids::NodeId;

use crate::client::{Phase, SockId};
use crate::world::World;

const CLIENTS: [&str; 6] = ["ann", "bob", "cid", "dot", "eve", "fay"];
pub const TOPICS: [&str; 4] = ["a/1", "a/2", "b/1", "c"];
const FILTERS: [&str; 6] = ["a/1", "a/+", "b/#", "#", "c", "+/1"];

/// All client IDs of the random workload.
pub fn clients() -> impl Iterator<Item = &'static str> {
    CLIENTS.into_iter()
}

impl World {
    /// Clients do something every now and then until `end`.
    pub fn clients_until(&mut self, end: Duration) {
        let pause = self.rng.millis(1, if self.cfg.retains > 50 { 50 } else { 120 });
        if self.now + pause >= end {
            return;
        }
        self.after(pause, move |w| {
            w.something();
            w.clients_until(end);
        });
    }

    fn something(&mut self) {
        let keep = if self.cfg.shares > 0 { 25 } else { 15 };
        if self.cfg.keepers > 0 && self.rng.percent(keep) {
            return self.some_keeper_acts();
        }
        if self.cfg.returns > 0 && self.rng.percent(self.cfg.returns) {
            return self.some_return();
        }
        let Some(id) = self.some_client().filter(|_| !self.rng.percent(self.cfg.connects)) else {
            return self.some_connect();
        };
        if self.rng.percent(self.cfg.shares) {
            return self.some_member();
        }
        match self.rng.below(40) {
            0..22 => self.some_publish(id),
            22..32 => self.some_subscribe(id),
            32..35 => {
                let filter = self.rng.pick(&FILTERS);
                self.unsubscribe(id, filter);
            }
            35 => self.disconnect(id),
            36 => self.hang_up(id),
            37 => self.some_revocation(),
            _ => self.some_connect(),
        }
    }

    fn some_connect(&mut self) {
        let client = self.rng.pick(&CLIENTS);
        let nodes: Vec<NodeId> = self.all_nodes().into_iter().filter(|n| self.node(*n).broker.is_some()).collect();
        if nodes.is_empty() {
            return;
        }
        let node = self.rng.pick(&nodes);
        let version = if self.rng.percent(75) { Version::V5 } else { Version::V311 };
        let narrow = (version == Version::V5 && self.rng.percent(30)).then(|| self.rng.range(1, 3) as u16);
        let token = format!("{client}-{}", self.rng.below(6));
        let id = self.connect_as(client, node, version, &token, narrow);
        if self.rng.percent(15) {
            self.lose_patience(id);
        }
        if self.rng.percent(10) {
            // Another one at the same time, elsewhere.
            let node = self.rng.pick(&nodes);
            self.connect_as(client, node, Version::V5, &token, None);
        }
    }

    /// A client that says goodbye, and is soon back.
    fn some_return(&mut self) {
        let Some(id) = self.some_client() else { return };
        let sock = self.socks.get(id);
        let (client, jti, Some(life)) = (sock.client.clone(), sock.jti.clone(), sock.life) else { return };
        self.disconnect(id);
        let (pause, nodes) = (self.rng.millis(1, 300), self.all_nodes());
        let node = if self.rng.percent(70) { life.node } else { self.rng.pick(&nodes) };
        self.after(pause, move |w| {
            let id = w.connect_as(&client, node, Version::V5, &jti, None);
            if w.rng.percent(30) {
                w.lose_patience(id);
            }
        });
    }

    /// A client that does not wait for its CONNACK, and tries elsewhere.
    fn lose_patience(&mut self, id: SockId) {
        let patience = self.rng.millis(1, 400);
        self.after(patience, move |w| {
            let (client, jti) = (w.socks.get(id).client.clone(), w.socks.get(id).jti.clone());
            if w.socks.get(id).phase == Phase::Connecting {
                w.hang_up(id);
                let nodes = w.all_nodes();
                let node = w.rng.pick(&nodes);
                w.connect_as(&client, node, Version::V5, &jti, None);
            }
        });
    }

    fn some_publish(&mut self, id: SockId) {
        for _ in 0..self.rng.range(1, 3) {
            let topic = self.rng.pick(&TOPICS);
            let qos = match self.rng.percent(65) {
                true if self.keepers.is(id) && self.rng.percent(60) => QoS::ExactlyOnce,
                true => QoS::AtLeastOnce,
                false => QoS::AtMostOnce,
            };
            if self.rng.percent(self.cfg.retains) {
                self.some_retained(id, topic, qos);
            } else {
                self.publish(id, topic, qos);
            }
        }
    }

    fn some_subscribe(&mut self, id: SockId) {
        let qos = |w: &mut World| match w.rng.percent(60) {
            true if w.keepers.is(id) && w.rng.percent(60) => QoS::ExactlyOnce,
            true => QoS::AtLeastOnce,
            false => QoS::AtMostOnce,
        };
        let one = (self.rng.pick(&FILTERS), qos(self));
        let two = (self.rng.pick(&FILTERS), qos(self));
        if self.rng.percent(30) && one.0 != two.0 {
            self.subscribe(id, &[one, two]);
        } else {
            self.subscribe(id, &[one]);
        }
        if self.rng.percent(self.cfg.retains) {
            self.publish_meanwhile();
        }
    }

    fn some_revocation(&mut self) {
        let client = self.rng.pick(&CLIENTS);
        // Token 0 is never revoked, so that the client can always come back.
        let token = format!("{client}-{}", self.rng.range(1, 5));
        let nodes = self.all_nodes();
        let node = self.rng.pick(&nodes);
        self.revoke(node, token);
    }
}
