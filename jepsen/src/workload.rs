//! Clients that publish, subscribe and contend for a client ID, and write down what they see.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rookery::client::Scheme;
use rookery::client::{Client, Event, message};
use rookery::mqtt::codec::{PacketId, QoS};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::checker::{Checker, Lost};
use crate::cluster::{HarnessError, Info, until};
use crate::history::{Conn, History, Publisher, Sending, What};

/// What publishers publish under.
const TOPIC: &str = "load";
/// Before a client tries the next node.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// A contender that lost its place stays away that long.
const CONTEND_EVERY: Duration = Duration::from_millis(700);
/// Between two things that a contender asks for.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// How much of what.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Clients that publish.
    pub publishers: u32,
    /// Clients that subscribe to everything.
    pub subscribers: u32,
    /// Clients that contend for one client ID; 0 for none.
    pub contenders: u32,
    /// Messages that a publisher has in flight at most.
    pub window: usize,
    /// Between two messages of a publisher.
    pub pace: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self { publishers: 3, subscribers: 3, contenders: 2, window: 8, pace: Duration::from_millis(5) }
    }
}

impl Plan {
    /// How many credentials it takes.
    pub fn credentials(&self) -> u32 {
        self.publishers + self.subscribers + 1
    }
}

/// A client and its token.
type Credential = (String, String);

#[derive(Clone)]
struct Env {
    info: Info,
    history: History,
    plan: Plan,
    stopping: watch::Receiver<bool>,
}

impl Env {
    /// A connection as `credential`, at `home` or, if that fails, at the nodes after it; none once stopping.
    async fn connect(&self, at: &mut usize, credential: &Credential) -> Option<Client> {
        while !*self.stopping.borrow() {
            if let Some(client) = self.try_connect(*at, credential).await {
                return Some(client);
            }
            *at += 1;
            sleep(RECONNECT_PAUSE).await;
        }
        None
    }

    async fn try_connect(&self, at: usize, (client, token): &Credential) -> Option<Client> {
        let node = self.info.nodes[at % self.info.nodes.len()].id;
        Client::connect(&self.info.options(node, Scheme::Mqtt, client, token)).await.ok().map(|(client, _)| client)
    }
}

/// A workload under way.
pub struct Workload {
    history: History,
    stop: watch::Sender<bool>,
    publishers: JoinSet<()>,
    others: JoinSet<()>,
}

impl Workload {
    /// Starts the clients, spread over the nodes. `credentials` are [`Plan::credentials`].
    pub fn start(info: &Info, plan: Plan, credentials: BTreeMap<String, String>, history: &History) -> Self {
        let (stop, stopping) = watch::channel(false);
        let env = Env { info: info.clone(), history: history.clone(), plan, stopping };
        let (mut publishers, mut others) = (JoinSet::new(), JoinSet::new());
        let mut credentials = credentials.into_iter();
        for (at, credential) in credentials.by_ref().take(plan.subscribers as usize).enumerate() {
            others.spawn(subscribe(env.clone(), at, credential));
        }
        for (id, credential) in (0..plan.publishers).zip(credentials.by_ref()) {
            publishers.spawn(publish(env.clone(), id, credential));
        }
        if let Some(credential) = credentials.next() {
            for at in 0..plan.contenders as usize {
                others.spawn(contend(env.clone(), at, credential.clone()));
            }
        }
        Self { history: history.clone(), stop, publishers, others }
    }

    /// Stops publishing, and waits until everything is acknowledged and has come where it should, as far as it ever does.
    ///
    /// # Errors
    /// A publisher's last messages are not acknowledged.
    pub async fn finish(mut self) -> Result<(), HarnessError> {
        let _ = self.stop.send(true);
        let mut publishers = std::mem::take(&mut self.publishers);
        let done = async || publishers.join_next().await.is_none();
        until("the last messages are acknowledged", done).await?;
        // What is still missing at the deadline is the checker's to report.
        let _ = until("everything has come", async || is_complete(&self.history)).await;
        self.others.shutdown().await;
        Ok(())
    }
}

fn is_complete(history: &History) -> bool {
    let mut lost = Box::new(Lost::default());
    for entry in &history.entries() {
        lost.step(entry);
    }
    lost.finish().is_empty()
}

/// What a publisher has yet to see acknowledged.
struct Backlog {
    id: Publisher,
    last_seq: u64,
    /// Sent on this connection, by packet identifier.
    in_flight: BTreeMap<PacketId, Sending>,
    /// Left over from earlier connections, in order.
    again: VecDeque<u64>,
}

impl Backlog {
    /// The next message to be sent; none if no new ones are wanted.
    fn next(&mut self, stopping: bool) -> Option<u64> {
        self.again.pop_front().or_else(|| {
            (!stopping).then(|| {
                self.last_seq += 1;
                self.last_seq
            })
        })
    }

    /// The connection ended: what it left open is sent again on the next, in order.
    fn reconnect(&mut self) {
        let mut open: Vec<u64> = std::mem::take(&mut self.in_flight).into_values().map(|s| s.seq).collect();
        open.sort_unstable();
        open.extend(self.again.drain(..));
        self.again = open.into();
    }

    fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.again.is_empty()
    }
}

async fn publish(env: Env, id: Publisher, credential: Credential) {
    let mut backlog = Backlog { id, last_seq: 0, in_flight: BTreeMap::new(), again: VecDeque::new() };
    let mut at = id as usize;
    loop {
        let stopping = *env.stopping.borrow();
        if stopping && backlog.is_empty() {
            return;
        }
        if let Some(mut client) = env.try_connect(at, &credential).await {
            let conn = env.history.number();
            publish_on(&env, &mut client, conn, &mut backlog).await;
            backlog.reconnect();
        }
        at += 1;
        sleep(RECONNECT_PAUSE).await;
    }
}

/// Publishes until the connection ends, or all is done.
async fn publish_on(env: &Env, client: &mut Client, conn: Conn, backlog: &mut Backlog) {
    let mut pace = interval(env.plan.pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let stopping = *env.stopping.borrow();
        if stopping && backlog.is_empty() {
            return;
        }
        tokio::select! {
            _ = pace.tick(), if backlog.in_flight.len() < env.plan.window => {
                let Some(seq) = backlog.next(stopping) else { continue };
                let sending = Sending { publisher: backlog.id, conn, seq };
                env.history.log(What::Sent(sending));
                let packet = message(&format!("{TOPIC}/{}", backlog.id), text(&sending), QoS::AtLeastOnce);
                let Ok(Some(packet)) = client.start_publish(packet) else { return };
                backlog.in_flight.insert(packet, sending);
                if client.flush().await.is_err() {
                    return;
                }
            }
            event = client.next() => match event {
                Ok(Event::Acked(packet, reason)) if !reason.is_error() => {
                    if let Some(sending) = backlog.in_flight.remove(&packet) {
                        env.history.log(What::Acked(sending));
                    }
                }
                // A refusal: it is sent again on another connection, so that one connection keeps its order.
                Ok(Event::Acked(..)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

async fn subscribe(env: Env, mut at: usize, credential: Credential) {
    while let Some(mut client) = env.connect(&mut at, &credential).await {
        if client.subscribe(&[(&format!("{TOPIC}/#"), QoS::AtLeastOnce)]).await.is_err() {
            continue;
        }
        let session = env.history.number();
        env.history.log(What::Subscribed(session));
        while let Ok(event) = client.next().await {
            if let Event::Message(message) = event
                && let Some(sending) = parse(&message.payload)
            {
                env.history.log(What::Delivered(session, sending));
            }
        }
        env.history.log(What::Unsubscribed(session));
        at += 1;
    }
}

async fn contend(env: Env, at: usize, credential: Credential) {
    let name = credential.0.clone();
    let mut at = at;
    loop {
        let conn = env.history.number();
        env.history.log(What::Claiming(name.clone(), conn));
        if let Some(mut client) = env.try_connect(at, &credential).await {
            env.history.log(What::Claimed(name.clone(), conn));
            for number in 0.. {
                env.history.log(What::Asked(name.clone(), conn, number));
                if client.publish("contended", "x", QoS::AtLeastOnce, false).await.is_err() {
                    break;
                }
                env.history.log(What::Served(name.clone(), conn, number));
                sleep(ASK_EVERY).await;
            }
            env.history.log(What::Lost(name.clone(), conn));
        } else {
            at += 1;
        }
        sleep(CONTEND_EVERY).await;
    }
}

fn text(sending: &Sending) -> String {
    format!("{} {} {}", sending.publisher, sending.conn, sending.seq)
}

fn parse(payload: &[u8]) -> Option<Sending> {
    let mut words = std::str::from_utf8(payload).ok()?.split(' ');
    let mut word = || words.next();
    let (publisher, conn, seq) = (word()?.parse().ok()?, word()?.parse().ok()?, word()?.parse().ok()?);
    Some(Sending { publisher, conn, seq })
}
