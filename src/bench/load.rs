//! The hot loop of fanout, fanin, pairs, wild, shared and latency.

use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use rookery_cluster::clock::{Clock, Moment, SystemClock};

use crate::mqtt::codec::{QoS, Version};

use super::conn::{Conn, SCRATCH_BYTES};
use super::flow::Flow;
use super::options::{BenchOptions, Scenario};
use super::plan::Plan;
use super::report::{Latency, Report, Timing};
use super::wire::{Seen, Stamp, Template};
use super::{BenchError, Credentials, setup};

/// A publisher fills at most this much before it writes, bytes.
const BURST_BYTES: usize = 256 << 10;
/// After the last publish, silence this long means that nothing more comes.
const SILENCE: Duration = Duration::from_secs(2);
/// A publisher that hears nothing of its messages this long, with the window full, gives them up: a server that
/// dropped the whole window would otherwise silence it for good.
const GIVE_UP: Duration = Duration::from_secs(1);
/// The loop looks at the clock at least this often.
const TICK: Duration = Duration::from_millis(20);

/// Messages per second where `--rate` is not given (latency).
const RATE: f64 = 1000.0;

/// Runs the scenario.
pub(super) fn run(options: &BenchOptions) -> Result<Report, BenchError> {
    let mut load = Load::set_up(options)?;
    load.warm_up()?;
    let timing = load.measure()?;
    load.drain()?;
    Ok(load.report(options, timing))
}

struct Load {
    poll: Poll,
    plan: Plan,
    version: Version,
    conns: Vec<Conn>,
    publishers: Vec<Publisher>,
    flows: Vec<Flow>,
    /// Publishers that may be able to send again.
    awake: Vec<usize>,
    scratch: Vec<u8>,
    start: Moment,
    window: u64,
    /// Messages per second, where they are not sent in a closed loop.
    rate: Option<f64>,
    paced: u64,
    pids: Vec<u32>,
    warmup: Duration,
    seconds: Duration,
    sending: bool,
    delivered: u64,
    last_delivery: Moment,
    next_look: Moment,
    failed: u64,
    latency: Histogram<u64>,
}

struct Publisher {
    template: Template,
    qos: QoS,
    sent: u64,
    unacked: u64,
    /// What the server allows, or what was asked for, whichever is less.
    inflight: u64,
    awake: bool,
    /// Deliveries of its messages.
    received: u64,
    /// Messages before this number are no longer waited for; where deliveries are counted, so many are not.
    given_up: u64,
    /// What had been received of its messages at the last look for stalls.
    progress: u64,
}

impl Load {
    fn set_up(options: &BenchOptions) -> Result<Self, BenchError> {
        let servers = options.servers();
        let version = options.version();
        let plan = Plan::new(options, servers.len(), std::process::id());
        let qos = QoS::from_u8(options.qos).unwrap_or(QoS::AtMostOnce);
        let readers = plan.subscribers.iter().map(|reader| reader.server);
        let places: Vec<_> = readers.chain(plan.publishers.iter().map(|writer| writer.server)).collect();
        let credentials = Credentials::load(options.credentials.as_deref())?.take(places.len())?;
        let who: Vec<_> = places.iter().map(|&server| servers[server].clone()).zip(credentials).collect();
        let mut links = setup::connect_all(&who, version)?;
        let filters: Vec<_> = plan.subscribers.iter().map(|reader| reader.filters.as_slice()).collect();
        setup::subscribe_all(&mut links, &filters, qos)?;
        let poll = Poll::new()?;
        let mut conns = Vec::new();
        let mut publishers = Vec::new();
        for (at, (link, connack)) in links.into_iter().enumerate() {
            conns.push(Conn::new(link, poll.registry(), Token(at))?);
            if let Some(writer) = at.checked_sub(plan.subscribers.len()) {
                let allowed = connack.properties.receive_maximum.map_or(u64::from(u16::MAX), |max| max.get().into());
                publishers.push(Publisher {
                    template: Template::new(version, &plan.publishers[writer].topic, qos, options.payload),
                    qos,
                    sent: 0,
                    unacked: 0,
                    inflight: options.inflight.min(allowed),
                    awake: true,
                    received: 0,
                    given_up: 0,
                    progress: 0,
                });
            }
        }
        let flows = (0..plan.flows()).map(|_| Flow::default()).collect();
        let start = SystemClock.now();
        Ok(Self {
            poll,
            version,
            conns,
            awake: (0..publishers.len()).collect(),
            publishers,
            flows,
            plan,
            scratch: vec![0; SCRATCH_BYTES.max(2 * (options.payload + BURST_BYTES))],
            start,
            window: options.window,
            rate: (options.scenario == Scenario::Latency).then_some(options.rate.unwrap_or(RATE)),
            paced: 0,
            pids: options.pid.clone(),
            warmup: Duration::from_secs_f64(options.warmup),
            seconds: Duration::from_secs_f64(options.seconds),
            sending: true,
            delivered: 0,
            last_delivery: start,
            next_look: start + GIVE_UP,
            failed: 0,
            latency: Latency::histogram(),
        })
    }

    fn warm_up(&mut self) -> Result<(), BenchError> {
        let end = self.start + self.warmup;
        let mut events = Events::with_capacity(1024);
        while SystemClock.now() < end {
            self.turn(&mut events)?;
        }
        self.delivered = 0;
        self.latency.reset();
        Ok(())
    }

    fn measure(&mut self) -> Result<Timing, BenchError> {
        let mut timing = Timing::start(&self.pids)?;
        let end = SystemClock.now() + self.seconds;
        let mut events = Events::with_capacity(1024);
        while SystemClock.now() < end {
            self.turn(&mut events)?;
        }
        timing.stop(self.delivered)?;
        Ok(timing)
    }

    /// Stops sending and waits until all has come, or nothing more does.
    fn drain(&mut self) -> Result<(), BenchError> {
        self.sending = false;
        // What a publisher was to send with its next messages.
        for conn in &mut self.conns {
            conn.flush()?;
        }
        self.last_delivery = SystemClock.now();
        // What arrives from now on counts for what is lost, not for how long it took.
        let measured = std::mem::replace(&mut self.latency, Latency::histogram());
        let mut events = Events::with_capacity(1024);
        while self.lost() > 0 && SystemClock.now().since(self.last_delivery) < SILENCE {
            self.turn(&mut events)?;
        }
        self.latency = measured;
        self.conns.iter_mut().for_each(Conn::end);
        Ok(())
    }

    fn lost(&self) -> u64 {
        let lost_of = |(at, publisher): (usize, &Publisher)| self.plan.lost(at, publisher.sent, &self.flows);
        self.publishers.iter().enumerate().map(lost_of).sum()
    }

    /// Waits for sockets, reads all that can be read, then writes all that may be written.
    fn turn(&mut self, events: &mut Events) -> Result<(), BenchError> {
        if self.sending && self.rate.is_none() {
            self.refill_awake()?;
            self.look_for_stalls();
        }
        let wait = self.until_due();
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in events.iter() {
            let at = event.token().0;
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.on_readable(at)?;
            }
            if event.is_writable()
                && self.conns[at].is_blocked()
                && self.conns[at].flush()?
                && let Some(publisher) = at.checked_sub(self.plan.subscribers.len())
            {
                wake(&mut self.publishers[publisher], &mut self.awake, publisher);
            }
        }
        self.send_due()
    }

    fn on_readable(&mut self, at: usize) -> Result<(), BenchError> {
        let Self { conns, plan, publishers, flows, awake, scratch, latency, .. } = self;
        let subscribers = plan.subscribers.len();
        let looping = self.sending && self.rate.is_none();
        let (start, clock) = (self.start, SystemClock);
        let now = std::cell::Cell::new(0);
        let (mut delivered, mut failed) = (0, 0);
        let conn = &mut conns[at];
        conn.read(
            scratch,
            self.version,
            || now.set(clock.now().since(start).as_nanos() as u64),
            |seen, out| {
                match seen {
                    Seen::Message(stamp, answer) => {
                        let from = stamp.publisher as usize;
                        let (flow, number) = plan.flow(at, stamp).ok_or("a message that is not for this client")?;
                        if flows[flow].on_message(number) {
                            delivered += 1;
                            publishers[from].received += 1;
                            latency.saturating_record((now.get().saturating_sub(stamp.sent)) / 1000);
                            wake(&mut publishers[from], awake, from);
                        }
                        if let Some(answer) = answer {
                            answer.write(out);
                        }
                    }
                    Seen::Received(answer) => {
                        let from = at.checked_sub(subscribers).ok_or("a pubrec for a subscriber")?;
                        answer.write(out);
                        wake(&mut publishers[from], awake, from);
                    }
                    Seen::Released(answer) => answer.write(out),
                    Seen::Done(good) => {
                        let from = at.checked_sub(subscribers).ok_or("a puback or pubcomp for a subscriber")?;
                        publishers[from].unacked = publishers[from].unacked.saturating_sub(1);
                        failed += u64::from(!good);
                        wake(&mut publishers[from], awake, from);
                    }
                    Seen::Disconnect(_) | Seen::Other => {}
                }
                Ok(())
            },
        )?;
        // In a closed loop a publisher's PUBRELs go out with its next messages, in `refill`.
        if !conn.is_flushed() && (at < subscribers || !looping) {
            conn.flush()?;
        }
        if delivered > 0 {
            self.delivered += delivered;
            self.last_delivery = self.start + Duration::from_nanos(now.get());
        }
        self.failed += failed;
        Ok(())
    }

    fn refill_awake(&mut self) -> Result<(), BenchError> {
        for index in std::mem::take(&mut self.awake) {
            self.publishers[index].awake = false;
            self.refill(index)?;
        }
        Ok(())
    }

    /// Sends what the window and the server allow.
    fn refill(&mut self, index: usize) -> Result<(), BenchError> {
        let settled = self.settled_of(index);
        let conn = &mut self.conns[self.plan.subscribers.len() + index];
        let publisher = &mut self.publishers[index];
        loop {
            if conn.is_blocked() {
                return Ok(());
            }
            let room = publisher.room(self.window, settled);
            let sent = SystemClock.now().since(self.start).as_nanos() as u64;
            for _ in 0..room {
                publisher.write(&mut conn.out, &self.plan, index, sent);
                if conn.out.len() >= BURST_BYTES {
                    break;
                }
            }
            if conn.is_flushed() {
                return Ok(());
            }
            conn.flush()?;
        }
    }

    /// How many of this publisher's messages are no longer waited for.
    fn settled_of(&self, publisher: usize) -> u64 {
        let (received, given_up) = (self.received_of(publisher), self.publishers[publisher].given_up);
        if self.plan.copies().is_some() { received + given_up } else { received.max(given_up) }
    }

    /// Every subscriber has seen this publisher's messages up to here; where deliveries are counted, so many of
    /// them are complete.
    fn received_of(&self, publisher: usize) -> u64 {
        if let Some(copies) = self.plan.copies() {
            return self.publishers[publisher].received / copies;
        }
        self.plan.flows_of(publisher).map(|flow| self.flows[flow].next()).min().unwrap_or(0)
    }

    fn look_for_stalls(&mut self) {
        let now = SystemClock.now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + GIVE_UP;
        for index in 0..self.publishers.len() {
            let (received, settled) = (self.received_of(index), self.settled_of(index));
            let publisher = &mut self.publishers[index];
            if publisher.progress == received && publisher.sent > settled {
                publisher.given_up = publisher.sent - if self.plan.copies().is_some() { received } else { 0 };
                wake(publisher, &mut self.awake, index);
            }
            publisher.progress = received;
        }
    }

    /// How long the loop may sleep.
    fn until_due(&self) -> Duration {
        let Some(rate) = self.rate.filter(|_| self.sending) else { return TICK };
        let due = self.start + Duration::from_secs_f64((self.paced + 1) as f64 / rate);
        due.since(SystemClock.now()).min(TICK)
    }

    /// At a fixed rate: sends what is due, each from the next publisher.
    fn send_due(&mut self) -> Result<(), BenchError> {
        let Some(rate) = self.rate.filter(|_| self.sending) else { return Ok(()) };
        let elapsed = SystemClock.now().since(self.start);
        while self.paced < (elapsed.as_secs_f64() * rate) as u64 {
            let index = self.paced as usize % self.publishers.len();
            self.paced += 1;
            let sent = SystemClock.now().since(self.start).as_nanos() as u64;
            let conn = &mut self.conns[self.plan.subscribers.len() + index];
            self.publishers[index].write(&mut conn.out, &self.plan, index, sent);
            conn.flush()?;
        }
        Ok(())
    }

    fn report(&self, options: &BenchOptions, timing: Timing) -> Report {
        let mut report = Report::new(options, timing, Latency::of(&self.latency));
        report.lost = self.lost();
        report.out_of_order = self.plan.is_ordered().then(|| self.flows.iter().map(Flow::out_of_order).sum());
        report.duplicates = self.flows.iter().map(Flow::duplicates).sum();
        report.failed = self.failed;
        report
    }
}

impl Publisher {
    /// How many more messages the window and the server allow, of which `settled` are no longer waited for.
    fn room(&self, window: u64, settled: u64) -> u64 {
        let room = window.saturating_sub(self.sent.saturating_sub(settled));
        if self.qos == QoS::AtMostOnce { room } else { room.min(self.inflight.saturating_sub(self.unacked)) }
    }

    fn write(&mut self, out: &mut Vec<u8>, plan: &Plan, index: usize, sent: u64) {
        // Identifiers 1 to 65,535 in turn: at most `inflight` of them are in use.
        let packet_id = (self.sent % 65_535) as u16 + 1;
        let stamp = Stamp { publisher: index as u32, number: self.sent, sent };
        self.template.write(out, packet_id, plan.levels(stamp.publisher, stamp.number), stamp);
        self.sent += 1;
        self.unacked += u64::from(self.qos > QoS::AtMostOnce);
    }
}

#[inline]
fn wake(publisher: &mut Publisher, awake: &mut Vec<usize>, index: usize) {
    if !publisher.awake {
        publisher.awake = true;
        awake.push(index);
    }
}
