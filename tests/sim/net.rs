//! The network between nodes: datagrams that may be lost or late, and streams that are in order but may stall and
//! break. Both obey cuts, which have a direction.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use rookery_cluster::ids::NodeId;

use crate::world::{Job, World};

pub type StreamId = u64;

/// Which way a stream's message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who opened it.
    Out = 0,
    /// Back.
    Back = 1,
}

#[derive(Default)]
pub struct Net {
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Percent of datagrams that are lost.
    pub loss: u64,
    /// Percent of datagrams that are late by up to a second.
    pub late: u64,
    streams: BTreeMap<StreamId, Stream>,
    next: StreamId,
    /// What a scenario wants lost: how many more datagrams of a kind to a node.
    pub lose: BTreeMap<(&'static str, NodeId), u32>,
}

struct Stream {
    ends: [NodeId; 2],
    queues: [VecDeque<Job>; 2],
    last: [Duration; 2],
    on_end: Job,
}

/// A continuation that is called once: by the answer or by the timeout, whichever comes first.
pub struct Once<T>(Rc<RefCell<Option<Continuation<T>>>>);
type Continuation<T> = Box<dyn FnOnce(&mut World, T)>;

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Once<T> {
    pub fn new(then: impl FnOnce(&mut World, T) + 'static) -> Self {
        Self(Rc::new(RefCell::new(Some(Box::new(then)))))
    }

    pub fn call(&self, world: &mut World, value: T) {
        let then = self.0.borrow_mut().take();
        if let Some(then) = then {
            then(world, value);
        }
    }
}

impl Net {
    /// Whether a message from `a` gets to `b`.
    pub fn reaches(&self, a: NodeId, b: NodeId) -> bool {
        a == b || !self.cuts.contains(&(a, b))
    }

    pub fn both_ways(&self, a: NodeId, b: NodeId) -> bool {
        self.reaches(a, b) && self.reaches(b, a)
    }

    pub fn is_cut(&self) -> bool {
        !self.cuts.is_empty()
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
        self.loss = 0;
        self.late = 0;
        self.lose.clear();
    }

    pub fn heal_one(&mut self, a: NodeId, b: NodeId) {
        self.cuts.remove(&(a, b));
    }

    pub fn streams(&self) -> Vec<StreamId> {
        self.streams.keys().copied().collect()
    }
}

impl World {
    /// Cuts the way from `a` to `b`. Streams between them stall, and break if that lasts.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        if a == b || !self.net.cuts.insert((a, b)) {
            return;
        }
        let keepalive = self.rng.millis(1500, 5000);
        self.after(keepalive, move |w| {
            if !w.net.both_ways(a, b) {
                w.break_streams(|ends| ends.contains(&a) && ends.contains(&b));
            }
        });
    }

    pub fn isolate(&mut self, node: NodeId) {
        for other in self.all_nodes() {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    /// Sends a datagram: `job` runs at `to` if it arrives and somebody is up there.
    pub fn datagram(&mut self, from: NodeId, to: NodeId, kind: &'static str, job: impl FnOnce(&mut World) + 'static) {
        let delay = if from == to { self.rng.micros(5, 50) } else { self.delay() };
        if let Some(left) = self.net.lose.get_mut(&(kind, to)).filter(|left| **left > 0) {
            *left -= 1;
            return;
        }
        let lost = from != to && (!self.net.reaches(from, to) || self.rng.percent(self.net.loss));
        if lost {
            return;
        }
        self.after(delay, move |w| {
            if w.net.reaches(from, to) && w.node(to).up {
                job(w);
            }
        });
    }

    fn delay(&mut self) -> Duration {
        if self.rng.percent(self.net.late) { self.rng.millis(20, 1000) } else { self.rng.micros(100, 3000) }
    }

    /// Opens a stream. `on_end` runs when `from` has noticed that the stream is over. (The other end need not know:
    /// it hears nothing more.)
    pub fn open_stream(&mut self, from: NodeId, to: NodeId, on_end: impl FnOnce(&mut World) + 'static) -> StreamId {
        self.net.next += 1;
        let stream = Stream {
            ends: [from, to],
            queues: [VecDeque::new(), VecDeque::new()],
            last: [self.now; 2],
            on_end: Box::new(on_end),
        };
        self.net.streams.insert(self.net.next, stream);
        self.net.next
    }

    /// Sends on a stream: in order with what was sent before on the same way.
    pub fn stream_send(&mut self, id: StreamId, way: Way, job: impl FnOnce(&mut World) + 'static) {
        let delay = self.rng.micros(80, 2500);
        let now = self.now;
        let Some(stream) = self.net.streams.get_mut(&id) else { return };
        let at = (now + delay).max(stream.last[way as usize]);
        stream.last[way as usize] = at;
        stream.queues[way as usize].push_back(Box::new(job));
        self.after(at - now, move |w| w.pump_stream(id, way));
    }

    fn pump_stream(&mut self, id: StreamId, way: Way) {
        let Some(stream) = self.net.streams.get_mut(&id) else { return };
        let [a, b] = stream.ends;
        let dead = !self.node(a).up || !self.node(b).up;
        // What is acknowledged by nobody goes on arriving for a while, until the buffers are full or the stream ends.
        let passes = if way == Way::Out { self.net.reaches(a, b) } else { self.net.reaches(b, a) };
        if dead || !passes {
            let again = self.rng.millis(20, 60);
            return self.after(again, move |w| w.pump_stream(id, way));
        }
        let job = self.net.streams.get_mut(&id).and_then(|s| s.queues[way as usize].pop_front());
        if let Some(job) = job {
            job(self);
        }
    }

    /// Breaks a stream: what is on its way is lost, and who opened it notices in its own time.
    pub fn break_stream(&mut self, id: StreamId) {
        let Some(stream) = self.net.streams.remove(&id) else { return };
        let notice = if self.rng.percent(70) { self.rng.millis(0, 5) } else { self.rng.millis(5, 1500) };
        self.after(notice, stream.on_end);
    }

    pub fn break_streams(&mut self, which: impl Fn(&[NodeId; 2]) -> bool) {
        let ids: Vec<_> = self.net.streams.iter().filter(|(_, s)| which(&s.ends)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.break_stream(id));
    }
}
