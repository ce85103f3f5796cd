//! The server's end of a connection: reads into the core, looks at what the core wrote, writes it; as
//! `broker::serve` has it.

use std::io::IoSlice;
use std::time::Duration;

use rookery::broker::core::{ConnKey, Input};
use rookery::mqtt::codec::{Packet, ReasonCode, Sender, decode, split};
use rookery_cluster::ids::NodeLife;
use rookery_cluster::limits::RELEASE_FLUSH;

use crate::client::{Phase, SockId, msg_of};
use crate::world::World;

/// Bytes that one read takes at most.
const READ_BYTES: usize = 128 << 10;

impl World {
    /// Reads what came, from every socket of the worker that may be read.
    pub fn read_socks(&mut self, life: NodeLife, worker: u16) {
        let Some(it) = self.worker(life, worker) else { return };
        let socks: Vec<(ConnKey, SockId)> = it.socks.iter().map(|(key, id)| (*key, *id)).collect();
        for (key, id) in socks {
            self.read_sock(life, worker, key, id);
        }
    }

    fn read_sock(&mut self, life: NodeLife, worker: u16, key: ConnKey, id: SockId) {
        let readable = self.worker(life, worker).is_some_and(|it| it.core.wants_read(key));
        self.shared_heard(life, worker, key, id);
        let Some(sock) = self.sock(id).filter(|_| readable) else { return };
        if sock.unread.is_empty() {
            if sock.eof {
                self.finish(life, worker, key, id);
            }
            return;
        }
        let mut size = sock.unread.len().min(READ_BYTES);
        if self.cfg.dawdle && self.rng.percent(10) {
            // Sockets give what they have, which need not end where a packet ends.
            size = self.rng.range(1, size as u64) as usize;
        }
        let Some(sock) = self.sock(id) else { return };
        let bytes = sock.unread.split_to(size);
        self.shared_read(life, worker, key, id, &bytes);
        self.input(life, worker, Input::Read { conn: key, bytes: &bytes });
        self.shared_heard(life, worker, key, id);
        self.kept_may_have_left(life, worker, key, id);
        let more = self.socks.get(id).eof || !self.socks.get(id).unread.is_empty();
        let readable = self.worker(life, worker).is_some_and(|it| it.core.wants_read(key));
        if more && readable {
            self.turn_soon(life, worker);
        }
    }

    /// Takes note of what the core wrote, and sees to it that it is sent.
    pub fn look_at_dirty(&mut self, life: NodeLife, worker: u16) {
        let Some(it) = self.worker(life, worker) else { return };
        let mut dirty = Vec::new();
        it.core.take_dirty(&mut dirty);
        let socks: Vec<_> = dirty.iter().filter_map(|key| Some((*key, *it.socks.get(key)?))).collect();
        let mut all: Vec<(SockId, Packet)> = Vec::new();
        for (key, id) in socks {
            all.extend(self.look(life, worker, key, id).into_iter().map(|packet| (id, packet)));
            self.write_soon(life, worker, key, id);
        }
        // Of one step all is done at once: what was accepted is known before what was acknowledged is judged.
        all.sort_by_key(|(_, packet)| matches!(packet, Packet::Puback(_) | Packet::Pubrec(_)));
        all.into_iter().for_each(|(id, packet)| self.written(life, id, packet));
    }

    /// What the core wrote for a connection since the last look.
    fn look(&mut self, life: NodeLife, worker: u16, key: ConnKey, id: SockId) -> Vec<Packet> {
        let (parsed, version) = (self.socks.get(id).parsed, self.socks.get(id).version);
        let mut packets = Vec::new();
        let Some(out) = self.worker(life, worker).and_then(|it| it.core.outbound(key)) else { return packets };
        if out.len() == parsed {
            return packets;
        }
        let mut slices = [IoSlice::new(&[]); 64];
        let used = out.slices(&mut slices);
        let all: Vec<u8> = slices[..used].iter().flat_map(|s| s.iter().copied()).collect();
        let mut rest = &all[parsed..];
        while let Some(frame) = split(rest, usize::MAX).expect("frames that are well formed") {
            let packet = decode(Some(version), Sender::Server, frame.first_byte, frame.body(rest));
            rest = &rest[frame.total..];
            packets.push(packet.expect("packets that decode"));
        }
        if let Some(sock) = self.sock(id) {
            sock.parsed = all.len();
        }
        packets
    }

    /// The core wrote `packet` for a client.
    fn written(&mut self, life: NodeLife, id: SockId, packet: Packet) {
        let now = self.local(life.node);
        self.note(|| format!("node {}: to connection {id}: {}", life.node, brief(&packet)));
        match packet {
            Packet::Connack(connack) if connack.reason == ReasonCode::SUCCESS => {
                if let Some(sock) = self.sock(id) {
                    sock.served = true;
                }
                self.kept_is_served(life, id);
                self.p03_on_connack(id);
                self.p02_check();
            }
            Packet::Disconnect(disconnect) => {
                if let Some(conn) = self.keepers.conns.get_mut(&id) {
                    conn.told = true;
                }
                if disconnect.reason != ReasonCode::SESSION_TAKEN_OVER {
                    return;
                }
                if let Some(sock) = self.sock(id) {
                    sock.owes_8e = Some(now);
                }
                self.p03_on_takeover(id);
            }
            Packet::Publish(publish) => {
                self.oracle.accepted.extend(msg_of(&publish.payload).map(|msg| (msg, id)));
                self.p09_written(id, &publish);
                self.shared_written(id, &publish);
            }
            Packet::Puback(ack) | Packet::Pubrec(ack) => {
                let kept = self.keepers.of(id).and_then(|it| it.out.iter().find(|sent| sent.id == ack.packet_id));
                let msg = kept.map(|sent| sent.msg);
                if let Some(msg) = msg.or_else(|| self.socks.get(id).unanswered.get(&ack.packet_id).copied()) {
                    self.p04_check(life, msg, ack.reason);
                    self.p09_acknowledged(life, msg, ack.reason);
                }
            }
            _ => {}
        }
    }

    fn write_soon(&mut self, life: NodeLife, worker: u16, key: ConnKey, id: SockId) {
        let dawdle = self.cfg.dawdle && self.rng.percent(15);
        let delay = if dawdle { self.rng.millis(0, 60) } else { self.rng.micros(1, 20) };
        let Some(sock) = self.sock(id) else { return };
        if !std::mem::replace(&mut sock.write_due, true) {
            self.after(delay, move |w| w.write(life, worker, key, id));
        }
    }

    fn write(&mut self, life: NodeLife, worker: u16, key: ConnKey, id: SockId) {
        let (now, local) = (self.now, self.local(life.node));
        let Some(sock) = self.socks.get_mut(id) else { return };
        sock.write_due = false;
        let blocked = sock.blocked_until > now;
        let Some(it) = self.worker(life, worker).filter(|it| it.socks.contains_key(&key)) else { return };
        let closing = it.core.closing(key);
        if blocked {
            return self.write_blocked(life, worker, key, id, closing);
        }
        let bytes = it.core.outbound(key).map(|out| out.take()).unwrap_or_default();
        if !bytes.is_empty() {
            it.core.drained(local, key);
            self.note(|| format!("{local:?}: {} bytes to connection {id}", bytes.len()));
            self.send_back(id, Some(bytes));
            if let Some(sock) = self.sock(id) {
                (sock.parsed, sock.owes_8e) = (0, None);
            }
            let more = self.look(life, worker, key, id);
            more.into_iter().for_each(|packet| self.written(life, id, packet));
            return self.write_soon(life, worker, key, id);
        }
        if closing {
            self.finish(life, worker, key, id);
        }
    }

    /// The client takes nothing: a connection that closes waits so long, no longer.
    fn write_blocked(&mut self, life: NodeLife, worker: u16, key: ConnKey, id: SockId, closing: bool) {
        let (now, local) = (self.now, self.local(life.node));
        let Some(sock) = self.socks.get_mut(id) else { return };
        let mut wait = sock.blocked_until - now;
        if closing {
            let since = *sock.closing_since.get_or_insert(local);
            if local.since(since) >= RELEASE_FLUSH {
                return self.finish(life, worker, key, id);
            }
            wait = wait.min(Duration::from_millis(10));
        }
        sock.write_due = true;
        self.after(wait, move |w| w.write(life, worker, key, id));
    }

    /// The connection's task ends.
    fn finish(&mut self, life: NodeLife, worker: u16, key: ConnKey, id: SockId) {
        self.flushed(life, worker, key);
        self.input(life, worker, Input::Closed { conn: key });
        self.flushed(life, worker, key);
        if let Some(it) = self.worker(life, worker) {
            it.socks.remove(&key);
        }
        let now = self.now;
        if let Some(sock) = self.sock(id) {
            (sock.life, sock.key, sock.owes_8e, sock.gone) = (None, None, None, Some(now));
            if sock.phase != Phase::Closed {
                self.send_back(id, None);
            }
        }
    }

    /// The node's life is over: its clients are told as far as their sockets take it.
    pub fn farewell(&mut self, node: rookery_cluster::ids::NodeId) {
        let Some(life) = self.node(node).broker.as_ref().map(|b| b.life) else { return };
        for worker in 0..self.cfg.workers {
            self.input(life, worker, Input::CloseAll { reason: ReasonCode::SERVER_SHUTTING_DOWN });
            let Some(it) = self.worker(life, worker) else { continue };
            let socks: Vec<_> = it.socks.iter().map(|(key, id)| (*key, *id)).collect();
            for (key, id) in socks {
                if self.socks.get(id).blocked_until <= self.now {
                    self.write(life, worker, key, id);
                }
            }
        }
    }
}

fn brief(packet: &Packet) -> String {
    match packet {
        Packet::Publish(p) if p.subscription_ids.is_empty() => {
            format!("publish {:?} at {:?}", msg_of(&p.payload), p.qos)
        }
        Packet::Publish(p) => format!("publish {:?} at {:?} for {:?}", msg_of(&p.payload), p.qos, p.subscription_ids),
        Packet::Puback(ack) => format!("puback {} {}", ack.packet_id, ack.reason),
        other => format!("{:?}", other.packet_type()),
    }
}
