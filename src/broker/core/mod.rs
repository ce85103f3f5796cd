//! One worker's connections, sessions and subscriptions, and the publish pipeline between them. PURE.
//!
//! The driver (`broker::worker`) calls, in this order:
//! - [`Core::open`] when a socket is handed over; the key it returns names the connection from then on;
//! - [`Core::step`] with each [`Input`], then performs the [`Effect`]s it left, in order;
//! - [`Core::flush`] once per turn of its loop: what the turn gathered for other workers and nodes leaves as one
//!   batch each;
//! - for each key of [`Core::take_dirty`], writes [`Core::outbound`] to the socket and calls
//!   [`Core::drained`] when it took bytes;
//! - [`Core::next_wakeup`] says when [`Input::Tick`] is due at the latest.
//!
//! Waiting is a phase of a connection, never a suspended call. A connection in a phase that waits is not read
//! from ([`Core::wants_read`]); what had been read stays in its carry, at most one read's worth.

mod account;
mod again;
mod conn;
mod connect;
mod dest;
mod direct;
mod drain;
mod ending;
mod fair;
mod forward;
mod given;
mod group;
mod inputs;
mod interest;
mod limits;
mod moving;
mod once;
mod options;
mod orphans;
mod park;
mod publish;
mod publisher;
mod quota;
mod retained;
mod room;
mod share;
mod stats;
mod system;
#[cfg(test)]
mod tests;
mod tick;
mod transfer;
mod view;
mod will;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use rookery_cluster::clock::Moment;
use rookery_cluster::handle::Holder;
use rookery_cluster::ids::{BrokerId, ClientId, NodeLife, Nonce, WorkerId};
use slab::Slab;

pub use self::account::{Full, Usage};
pub use self::conn::Transport;
use self::conn::{Conn, Phase};
pub use self::dest::Batch;
use self::dest::Destination;
pub use self::forward::origin;
pub use self::inputs::{Effect, Input, Via};
use self::interest::Barrier;
pub use self::moving::Fetched;
use self::moving::Moves;
pub use self::quota::{Quota, Share, Tally};
pub use self::retained::Retaining;
use self::retained::Retention;
use self::room::{DestIndex, Room};
pub use self::stats::{DropReason, Dropped, Stats};
use self::system::System;
pub use self::system::{Bulletin, Facts, Figures, Watched};
pub use self::view::{Admitted, AuthRequest, View};
use self::will::PendingWill;
pub use crate::mqtt::codec::QoS;
use crate::mqtt::codec::ReasonCode;
pub use crate::mqtt::session::{Outbound, Settings, UserNameRule, WillPolicy};

/// A connection of this worker. A key of a connection that is gone matches nothing, also when its place is
/// taken again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnKey {
    /// Place in the worker's table.
    pub index: u32,
    /// Which tenant of the place.
    pub generation: u32,
}

/// One worker.
#[derive(Debug)]
pub struct Core {
    worker: WorkerId,
    life: NodeLife,
    seed: u64,
    conns: Slab<Conn>,
    /// Sessions without a connection: their places in `conns`.
    parked: BTreeMap<(BrokerId, ClientId), ConnKey>,
    /// Sessions on their way here, or from here.
    moves: Moves,
    /// Under which key a session goes on whose earlier connection has publishes that are not accepted yet.
    moved: BTreeMap<ConnKey, ConnKey>,
    /// Wills that wait to be accepted, and those that were.
    wills: BTreeMap<u32, PendingWill>,
    next_will: u32,
    published: Vec<u64>,
    refused: Vec<u64>,
    had: once::Had,
    /// Who waits until a destination is drained, those for whom it is, and the next one's place here.
    drains: BTreeMap<u32, u64>,
    drained: Vec<u64>,
    next_drain: u32,
    /// The number of the last publish that may be kept, see `mqtt::session::Mark`.
    marked: u16,
    generation: u32,
    next_nonce: u64,
    /// Connections that wait for, or hold, a claim.
    claims: BTreeMap<Nonce, ConnKey>,
    rooms: Slab<Room>,
    room_of: BTreeMap<BrokerId, usize>,
    dests: Vec<Destination>,
    dest_of: BTreeMap<Holder, DestIndex>,
    /// Destinations with something to send at the next flush.
    touched: Vec<DestIndex>,
    barriers: BTreeMap<u64, Barrier>,
    next_token: u64,
    dirty: Vec<ConnKey>,
    /// Rooms whose accounts the node's accountant has yet to hear of, and what is left of rooms that are gone.
    unreported: Vec<usize>,
    left_behind: Vec<Usage>,
    /// Connections that may be read from again, with what they sent meanwhile.
    resumable: Vec<ConnKey>,
    /// Connections that are not read from because they sent too many bytes.
    paced: Vec<ConnKey>,
    quota: Box<dyn Quota>,
    interest_complete: bool,
    retention: Retention,
    /// Whether this node may not serve (R1), as of this step.
    lapsed: bool,
    /// The time of this step.
    clock: Moment,
    /// Rooms with messages of shared subscriptions whose receivers are gone.
    orphaned: BTreeSet<usize>,
    /// Connections that are being ended together: nothing of shared subscriptions goes to them.
    ending: BTreeSet<ConnKey>,
    /// Where those go who are told to use another server.
    elsewhere: BTreeMap<Transport, String>,
    system: System,
    next_tick: Moment,
    /// Counters.
    pub stats: Stats,
}

impl Core {
    /// A worker without connections. `seed` makes topic hashing unpredictable for clients.
    pub fn new(worker: WorkerId, life: NodeLife, seed: u64) -> Self {
        Self {
            worker,
            life,
            seed,
            conns: Slab::new(),
            parked: BTreeMap::new(),
            moves: Moves::default(),
            moved: BTreeMap::new(),
            wills: BTreeMap::new(),
            next_will: 0,
            published: Vec::new(),
            refused: Vec::new(),
            had: once::Had::default(),
            drains: BTreeMap::new(),
            drained: Vec::new(),
            next_drain: 0,
            marked: 0,
            generation: 0,
            next_nonce: 1,
            claims: BTreeMap::new(),
            rooms: Slab::new(),
            room_of: BTreeMap::new(),
            dests: Vec::new(),
            dest_of: BTreeMap::new(),
            touched: Vec::new(),
            barriers: BTreeMap::new(),
            next_token: 1,
            dirty: Vec::new(),
            unreported: Vec::new(),
            left_behind: Vec::new(),
            resumable: Vec::new(),
            paced: Vec::new(),
            quota: Box::new(Tally::default()),
            interest_complete: false,
            retention: Retention::default(),
            lapsed: false,
            clock: Moment::default(),
            orphaned: BTreeSet::new(),
            ending: BTreeSet::new(),
            elsewhere: BTreeMap::new(),
            system: System::default(),
            next_tick: Moment::default(),
            stats: Stats::default(),
        }
    }

    /// Counts together with the node's other workers from now on. To be called before the first connection.
    pub fn share_quota(&mut self, quota: Box<dyn Quota>) {
        self.quota = quota;
    }

    /// Takes a connection over.
    pub fn open(
        &mut self,
        now: Moment,
        from: SocketAddr,
        server_name: Option<Arc<str>>,
        transport: Transport,
    ) -> ConnKey {
        let key = self.next_key();
        self.conns.insert(Conn::new(key, now, from, server_name, transport));
        self.stats.connections_opened += 1;
        key
    }

    /// The key of what is inserted into the table next.
    fn next_key(&mut self) -> ConnKey {
        self.generation = self.generation.wrapping_add(1);
        ConnKey { index: self.conns.vacant_key() as u32, generation: self.generation }
    }

    /// Performs one input; what must be done is appended to `out`.
    pub fn step(&mut self, now: Moment, input: Input<'_>, view: &dyn View, out: &mut Vec<Effect>) {
        self.clock = now;
        self.lapsed = now >= view.serving_until();
        if self.lapsed && !self.conns.is_empty() {
            // Whoever holds the claims next may be serving already: nothing more is read or acknowledged. Who has not
            // sent its CONNECT yet is still to be told (P13).
            self.close_where(|conn| !matches!(conn.phase, Phase::Greeting), ReasonCode::USE_ANOTHER_SERVER, view, out);
        }
        match input {
            Input::Read { conn, bytes } => self.on_read(now, conn, bytes, out),
            Input::Closed { conn } => self.on_closed(conn, out),
            Input::Authenticated { conn, result } => self.on_authenticated(now, conn, result, out),
            Input::Claim(event) => self.on_claim(now, event, view, out),
            Input::Forwarded { origin, via, runs } => self.on_forwarded(now, origin, via, runs),
            Input::Accepted { from, through } => self.on_accepted(from, through),
            Input::Room { to } => self.on_room(now, to, out),
            Input::NoCredit { to, batch } => self.on_no_credit(now, to, batch),
            Input::Expired { holder } => self.on_expired(holder),
            Input::Interest { token, changes } => self.on_interest(token, changes, out),
            Input::Barrier { token, seen } => self.on_barrier(token, seen, out),
            Input::Asked { ticket, asked } => self.on_asked(ticket, asked, out),
            Input::Fetched { conn, reply } => self.on_fetched(conn, reply, out),
            Input::Drain { ticket, broker, to } => self.on_drain(ticket, broker, to),
            Input::Will { token, broker, will } => self.on_will(now, token, broker, will, out),
            Input::RetainedInStep => self.on_retained_in_step(),
            Input::RetainedComplete => self.on_retained_complete(),
            Input::Retained { conn, filter, page } => self.on_retained(now, view.wall(), conn, filter, page),
            Input::InterestComplete => self.on_interest_complete(),
            Input::Recheck { broker } => self.on_recheck(broker, view, out),
            Input::Reconfigured { broker, settings } => self.on_reconfigured(broker, &settings),
            Input::CloseAll { reason } => self.close_where(|_| true, reason, view, out),
            Input::Tick => self.on_tick(now, view, out),
        }
        out.extend(self.published.drain(..).map(|token| Effect::WillPublished { token }));
        out.extend(self.refused.drain(..).map(|token| Effect::WillRefused { token }));
        out.extend(self.drained.drain(..).map(|ticket| Effect::Drained { ticket }));
        self.answer_wanted(out);
        self.resume_all(now, out);
    }

    /// When [`Input::Tick`] is due at the latest.
    pub fn next_wakeup(&self) -> Moment {
        self.next_tick
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.conns.len() - self.parked.len()
    }

    /// How many sessions are kept without a connection.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Connections that have something to write, or that wait to be closed, since the last call.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnKey>) {
        into.append(&mut self.dirty);
        for key in into.iter() {
            if let Some(conn) = get(&mut self.conns, *key) {
                conn.dirty = false;
            }
            self.account_for(*key);
        }
    }

    /// What waits for a connection's socket; `None` if the connection is gone.
    pub fn outbound(&mut self, key: ConnKey) -> Option<&mut Outbound> {
        get(&mut self.conns, key).map(|conn| &mut conn.out)
    }

    /// Whether [`Core::flush`] has something to do.
    pub fn has_batches(&self) -> bool {
        !self.touched.is_empty() || self.reads_due()
    }

    /// Whether the connection is read from: not while it waits for others, nor while a destination that it
    /// fills is full (R10), nor once it closes.
    pub fn wants_read(&self, key: ConnKey) -> bool {
        self.conns
            .get(key.index as usize)
            .is_some_and(|c| c.key == key && c.wants_read(self.interest_complete) && !c.drowns_in_replies())
    }

    /// Whether the connection ends because its client said that it goes.
    pub fn has_left(&self, key: ConnKey) -> bool {
        self.conns.get(key.index as usize).is_some_and(|c| c.key == key && c.left)
    }

    /// Whether the connection ends once its output is written.
    pub fn closing(&self, key: ConnKey) -> bool {
        !self.conns.get(key.index as usize).is_some_and(|c| c.key == key && !matches!(c.phase, Phase::Closing))
    }
}

/// The connection of `key`, if it still is the one.
fn get(conns: &mut Slab<Conn>, key: ConnKey) -> Option<&mut Conn> {
    conns.get_mut(key.index as usize).filter(|conn| conn.key == key)
}
