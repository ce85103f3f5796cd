//! What clients that keep their sessions do, at random; and that all of them are served in the end.

use rookery::mqtt::codec::{QoS, Version};

use crate::client::{Phase, SockId};
use crate::keeper::{LONG, Terms};
use crate::share::{GROUPS, GroupNo, KEPT_MEMBERS};
use crate::world::World;

const KEEPERS: [&str; 3] = ["kay", "lou", "max"];

impl World {
    pub fn some_keeper_acts(&mut self) {
        let shares = self.cfg.shares > 0 && self.rng.percent(40);
        let client = match shares {
            true => self.rng.pick(&KEPT_MEMBERS),
            false => KEEPERS[self.rng.below(self.cfg.keepers) as usize],
        };
        let current = self.current_of(client);
        let Some(id) = current.filter(|id| self.socks.get(*id).up()) else {
            let waits = current.is_some_and(|id| self.socks.get(id).phase == Phase::Connecting);
            if !waits || self.rng.percent(20) {
                self.some_keeper_connects(client);
            }
            return;
        };
        match self.rng.below(10) {
            0 => self.disconnect(id),
            1..3 => self.hang_up(id),
            3 => self.vanish(id),
            4..8 if shares => self.some_kept_member_acts(id),
            4..6 => self.subscribe(id, &[("will/#", QoS::ExactlyOnce)]),
            _ => {
                for _ in 0..self.rng.range(1, 4) {
                    let topic = self.rng.pick(&["a/1", "a/2", "b/1"]);
                    let qos = self.rng.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]);
                    self.publish(id, topic, qos);
                }
                if self.rng.percent(40) {
                    // In the middle of it all.
                    let soon = self.rng.micros(100, 9000);
                    let name = client.to_owned();
                    self.after(soon, move |w| w.some_keeper_connects(&name));
                }
            }
        }
    }

    fn some_kept_member_acts(&mut self, id: SockId) {
        let group = self.rng.range(1, GROUPS.len() as u64) as GroupNo;
        match self.rng.below(6) {
            0 => self.unsubscribe(id, GROUPS[group as usize - 1]),
            1 => self.mute(id),
            _ => {
                let qos = self.rng.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]);
                self.join(id, group, qos);
            }
        }
    }

    fn some_keeper_connects(&mut self, client: &str) {
        let nodes: Vec<_> = self.all_nodes().into_iter().filter(|n| self.node(*n).broker.is_some()).collect();
        if nodes.is_empty() {
            return;
        }
        let node = self.rng.pick(&nodes);
        let delay = if self.rng.percent(50) { 0 } else { self.rng.range(1, 6) as u32 };
        let will = self.rng.percent(50).then(|| (self.rng.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]), delay));
        let kept_member = KEPT_MEMBERS.contains(&client);
        let version = if kept_member || self.rng.percent(85) { Version::V5 } else { Version::V311 };
        let will = will.filter(|_| version == Version::V5);
        let retains = self.rng.percent(self.cfg.retains);
        let clean = self.rng.percent(8);
        let expiry = match self.rng.below(20) {
            0 => 0,
            1..4 => self.rng.range(2, 8) as u32,
            _ => LONG,
        };
        let narrow = self.rng.percent(30).then(|| self.rng.range(1, 3) as u16);
        self.connect_keeper(client, node, Terms { version, clean, expiry, will, retains, narrow });
    }

    fn current_of(&self, client: &str) -> Option<SockId> {
        self.keepers.all.get(client)?.current
    }

    /// Brings up whichever keeper has no connection, or acknowledges nothing on it; whether all have one.
    pub fn keepers_connect(&mut self) -> bool {
        let mut all = true;
        let names: Vec<_> = self.keepers.all.keys().cloned().collect();
        for client in names {
            let sock = self.current_of(&client).map(|id| self.socks.get(id));
            let (phase, mute) = (sock.map(|sock| sock.phase), sock.is_some_and(|sock| sock.mute));
            if phase == Some(Phase::Up) && !mute {
                continue;
            }
            all = false;
            if phase != Some(Phase::Connecting) || mute {
                let nodes = self.all_nodes();
                let node = self.rng.pick(&nodes);
                self.connect_keeper(&client, node, Terms::KEEP);
            }
        }
        all
    }
}
