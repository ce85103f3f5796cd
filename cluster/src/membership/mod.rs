//! PURE. Who is up, as SWIM sees it (Das, Gupta, Motivala 2002, with suspicion; by foca), and each node's
//! card. It only ever suggests: nothing is owned, expired or granted on its word (R1, R3).
//!
//! Contract of [`Membership`]: give it every [`Input`] with [`Membership::step`], in the order of arrival;
//! perform every [`Output`], in order; give each [`Timer`] back after its delay, those due together sorted;
//! and give it [`Input::Tick`] every [`TICK`], by which a node that stands alone finds the others again.

mod card;
mod envelope;
mod identity;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use foca::{AccumulatingRuntime, Config, Foca, OwnedNotification, PeriodicParams, PostcardCodec, State};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub use card::{BadCard, MAX_CARD_BYTES, NodeCard};
pub use identity::Identity;

use crate::ids::{NodeId, NodeLife};
use crate::limits;

/// How often the driver gives [`Input::Tick`].
pub const TICK: Duration = Duration::from_secs(2);
/// A datagram that passes any network without fragments (IPv6 minimum 1280, less IP and UDP headers), less
/// what sealing adds. See [`MAX_DATAGRAM_BYTES`].
const MAX_PLAIN_BYTES: usize = 1200;
/// Largest datagram given out by [`Output::Send`], and taken, bytes.
pub const MAX_DATAGRAM_BYTES: usize = MAX_PLAIN_BYTES;
/// Cards kept: more nodes than a cluster has.
const MAX_CARDS: usize = 1024;
/// Addresses to announce to while alone; more are kept out.
const MAX_SEEDS: usize = 64;

type Core = Foca<Identity, PostcardCodec, StdRng, foca::NoCustomBroadcast>;

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// An authentic datagram from another node.
    Datagram(Bytes),
    /// A timer whose delay is over.
    Timer(Timer),
    /// Some node may be at this address; it is asked for the members.
    Announce(SocketAddr),
    /// This node's card changed. Its life and revision are filled in here.
    Card(NodeCard),
    /// This node stops: says so, so that nobody has to find out. Nothing but this node's end may follow.
    Leave,
    /// [`TICK`] has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram; it may get lost.
    Send {
        /// To whom.
        to: SocketAddr,
        /// At most [`MAX_DATAGRAM_BYTES`].
        datagram: Bytes,
    },
    /// Give `timer` back after `after`.
    Schedule {
        /// From now.
        after: Duration,
        /// What to give back.
        timer: Timer,
    },
    /// The node is up: for the first time, again, or in a newer life.
    Up(NodeLife, SocketAddr),
    /// Nobody reaches this life of the node, or it left.
    Down(NodeLife),
    /// News of a node's card.
    Card(NodeCard),
    /// The others took this node for down, and it refuted that.
    Rejoined,
}

/// To be given back later. Ordered as timers that are due together must be given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer(foca::Timer<Identity>);

/// How a member is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberState {
    /// Up.
    Up,
    /// Up, and some node did not reach it.
    Suspect,
    /// Down or gone.
    Down,
}

/// A node as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which life of which node.
    pub life: NodeLife,
    /// Where its membership datagrams go.
    pub address: SocketAddr,
    /// How it is seen.
    pub state: MemberState,
    /// What it says of itself; `None` until its card came by.
    pub card: Option<NodeCard>,
}

/// What went wrong, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams that could not be read.
    pub malformed: u64,
    /// Steps that foca refused for another reason: misrouted datagrams, late timers.
    pub refused: u64,
    /// Cards that found no room.
    pub cards_dropped: u64,
}

/// This node's view of the members.
pub struct Membership {
    core: Core,
    effects: AccumulatingRuntime<Identity>,
    cards: BTreeMap<NodeId, NodeCard>,
    next_card: NodeId,
    seeds: Vec<SocketAddr>,
    left: bool,
    stats: Stats,
}

impl Membership {
    /// A node that knows nobody yet. `seed` drives the choice of whom to probe.
    ///
    /// # Errors
    /// A card above [`MAX_CARD_BYTES`].
    pub fn new(life: NodeLife, address: SocketAddr, card: NodeCard, seed: u64) -> Result<Self, BadCard> {
        let card = NodeCard { life, revision: 1, ..card };
        card.check()?;
        let identity = Identity::new(life, address);
        Ok(Self {
            core: Foca::new(identity, config(), StdRng::seed_from_u64(seed), PostcardCodec),
            effects: AccumulatingRuntime::new(),
            cards: BTreeMap::from([(life.node, card)]),
            next_card: NodeId(0),
            seeds: Vec::new(),
            left: false,
            stats: Stats::default(),
        })
    }

    /// Takes one input and appends what is to be done about it.
    pub fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        let result = match input {
            Input::Datagram(datagram) => self.on_datagram(&datagram, out),
            Input::Timer(Timer(timer)) => self.core.handle_timer(timer, &mut self.effects),
            Input::Announce(address) => self.on_announce(address),
            Input::Card(card) => self.on_own_card(card),
            Input::Leave => self.on_leave(),
            Input::Tick => self.on_tick(),
        };
        if let Err(error) = result {
            self.count(&error);
        }
        self.drain(out);
    }

    /// All known nodes, this one too, by node id.
    pub fn members(&self) -> Vec<Member> {
        let own = (self.core.identity(), if self.left { MemberState::Down } else { MemberState::Up });
        // Somebody may say that this life is at another address: that is no member.
        let others = self.core.iter_membership_state().filter(|m| m.id().life.node != self.own().node);
        let others = others.map(|m| (m.id(), state(m.state())));
        let mut all: Vec<_> = others.chain([own]).map(|(id, state)| (id.renewals, self.member(id, state))).collect();
        // What somebody makes up may be heard of twice: of each node the latest counts.
        all.sort_by_key(|(renewals, member)| std::cmp::Reverse((member.life, *renewals)));
        all.dedup_by_key(|(_, member)| member.life.node);
        all.into_iter().rev().map(|(_, member)| member).collect()
    }

    /// What went wrong so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn member(&self, id: &Identity, state: MemberState) -> Member {
        let card = self.cards.get(&id.life.node).filter(|card| card.life == id.life).cloned();
        Member { life: id.life, address: id.address, state, card }
    }

    fn on_datagram(&mut self, datagram: &[u8], out: &mut Vec<Output>) -> Result<(), foca::Error> {
        let (packet, card) = envelope::open(datagram).ok_or(foca::Error::MalformedPacket)?;
        if let Some(card) = card {
            self.on_card(card, out);
        }
        self.core.handle_data(packet, &mut self.effects)
    }

    fn on_card(&mut self, card: NodeCard, out: &mut Vec<Output>) {
        let known = self.cards.get(&card.life.node);
        if card.life.node == self.own().node
            || known.is_some_and(|k| (k.life, k.revision) >= (card.life, card.revision))
        {
            return;
        }
        if known.is_none() && self.cards.len() >= MAX_CARDS {
            self.stats.cards_dropped += 1;
            return;
        }
        self.cards.insert(card.life.node, card.clone());
        out.push(Output::Card(card));
    }

    fn on_own_card(&mut self, card: NodeCard) -> Result<(), foca::Error> {
        let life = self.own();
        let revision = self.cards.get(&life.node).map_or(1, |card| card.revision + 1);
        let card = NodeCard { life, revision, ..card };
        // The old card stays in use: a card is a hint, and no reason to stop.
        card.check().map_err(|_| foca::Error::DataTooBig)?;
        self.cards.insert(life.node, card);
        Ok(())
    }

    fn on_announce(&mut self, address: SocketAddr) -> Result<(), foca::Error> {
        if address == self.core.identity().address {
            return Ok(());
        }
        if self.seeds.len() < MAX_SEEDS && !self.seeds.contains(&address) {
            self.seeds.push(address);
        }
        self.core.announce(Identity::unknown_at(address), &mut self.effects)
    }

    fn on_leave(&mut self) -> Result<(), foca::Error> {
        self.left = true;
        self.core.leave_cluster(&mut self.effects)
    }

    /// foca is silent while it knows nobody that is up: then all are asked who ever were.
    fn on_tick(&mut self) -> Result<(), foca::Error> {
        if self.left || self.core.num_members() > 0 {
            return Ok(());
        }
        let former = self.core.iter_membership_state().map(|m| m.id().address);
        let mut addresses: Vec<SocketAddr> = self.seeds.iter().copied().chain(former).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
            .into_iter()
            .take(MAX_SEEDS)
            .try_for_each(|address| self.core.announce(Identity::unknown_at(address), &mut self.effects))
    }

    fn own(&self) -> NodeLife {
        self.core.identity().life
    }

    fn count(&mut self, error: &foca::Error) {
        match error {
            foca::Error::MalformedPacket | foca::Error::Decode(_) | foca::Error::DataTooBig => {
                self.stats.malformed += 1
            }
            _ => self.stats.refused += 1,
        }
    }

    fn drain(&mut self, out: &mut Vec<Output>) {
        while let Some((to, packet)) = self.effects.to_send() {
            let card = self.card_to_send();
            out.push(Output::Send { to: to.address, datagram: envelope::close(&packet, card) });
        }
        while let Some((after, timer)) = self.effects.to_schedule() {
            out.push(Output::Schedule { after, timer: Timer(timer) });
        }
        while let Some(note) = self.effects.to_notify() {
            match note {
                OwnedNotification::MemberUp(id) | OwnedNotification::MemberDown(id)
                    if id.life.node == self.own().node => {}
                OwnedNotification::MemberUp(id) => {
                    // It was said already if it took a former life's place in the same step.
                    let up = Output::Up(id.life, id.address);
                    out.extend((!out.contains(&up)).then_some(up));
                }
                OwnedNotification::MemberDown(id) => out.push(Output::Down(id.life)),
                OwnedNotification::Rename(_, new) if new.life.node == self.own().node => {}
                OwnedNotification::Rename(old, new) if old.life != new.life || old.address != new.address => {
                    out.extend(self.is_up(&new).then_some(Output::Up(new.life, new.address)));
                }
                OwnedNotification::Rejoin(_) => out.push(Output::Rejoined),
                _ => {}
            }
        }
    }

    fn is_up(&self, id: &Identity) -> bool {
        self.core.iter_members().any(|member| member.id() == id)
    }

    /// Each datagram carries one card, in turn the next one of a node that is up: so a late joiner hears them
    /// all too, and a card costs no datagram of its own.
    fn card_to_send(&mut self) -> Option<&NodeCard> {
        let own = self.own().node;
        let up = |node: &NodeId| *node == own || self.core.iter_members().any(|m| m.id().life.node == *node);
        let next = self.cards.range(self.next_card..).map(|(node, _)| *node).find(up);
        let node = next.or_else(|| self.cards.keys().copied().find(up))?;
        self.next_card = NodeId(node.0.saturating_add(1));
        self.cards.get(&node)
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("own", &self.own()).field("stats", &self.stats).finish_non_exhaustive()
    }
}

fn state(state: State) -> MemberState {
    match state {
        State::Alive => MemberState::Up,
        State::Suspect => MemberState::Suspect,
        State::Down => MemberState::Down,
    }
}

fn config() -> Config {
    const fn count(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).expect("the counts below are not zero")
    }
    let every = |frequency, n| Some(PeriodicParams { frequency, num_members: count(n) });
    Config {
        probe_period: limits::SWIM_PROBE,
        // Less than a third of the period: the direct and the indirect probe both fit in.
        probe_rtt: limits::SWIM_PROBE * 3 / 10,
        num_indirect_probes: count(3),
        max_transmissions: NonZeroU8::new(10).expect("ten is not zero"),
        suspect_to_down_after: limits::SWIM_PROBE * 3,
        remove_down_after: Some(Duration::from_secs(24 * 3600)),
        max_packet_size: count(MAX_PLAIN_BYTES - envelope::OVERHEAD - MAX_CARD_BYTES),
        notify_down_members: true,
        periodic_announce: every(Duration::from_secs(30), 1),
        // A healed partition is found in about this time.
        periodic_announce_to_down_members: every(Duration::from_secs(10), 2),
        periodic_gossip: every(Duration::from_millis(250), 3),
    }
}

#[cfg(test)]
mod tests;
