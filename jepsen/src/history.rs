//! What the clients saw, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// A publisher, counted from 0.
pub type Publisher = u32;
/// A subscription from its SUBACK until its connection ended; each has a number of its own.
pub type Session = u32;
/// A connection; each has a number of its own.
pub type Conn = u32;

/// One message on one connection of its publisher. Sent again on a later connection it is another sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sending {
    /// Who.
    pub publisher: Publisher,
    /// On which connection.
    pub conn: Conn,
    /// The message's number, which rises by 1 from 1.
    pub seq: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A message is about to be published with QoS 1.
    Sent(Sending),
    /// It was acknowledged with success.
    Acked(Sending),
    /// The SUBACK came.
    Subscribed(Session),
    /// A message came.
    Delivered(Session, Sending),
    /// The subscriber's connection ended.
    Unsubscribed(Session),
    /// A contender is about to connect under a client ID that others use as well.
    Claiming(String, Conn),
    /// Its CONNACK came.
    Claimed(String, Conn),
    /// It is about to ask the server for something.
    Asked(String, Conn, u64),
    /// The server served it.
    Served(String, Conn, u64),
    /// Its connection ended.
    Lost(String, Conn),
    /// Something was done to the cluster.
    Fault(String),
}

/// What happened, and when.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the history.
    pub index: usize,
    /// What.
    pub what: What,
}

#[derive(Debug, Default)]
struct Inner {
    entries: Vec<Entry>,
    /// Positive acknowledgements of each publisher.
    acked: BTreeMap<Publisher, u64>,
    last_number: u32,
}

/// Written by many, read once at the end.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Inner>>);

impl History {
    /// Writes down what happened just now, or what is done next.
    pub fn log(&self, what: What) {
        let mut inner = self.0.lock();
        if let What::Acked(sending) = &what {
            *inner.acked.entry(sending.publisher).or_default() += 1;
        }
        let index = inner.entries.len();
        inner.entries.push(Entry { index, what });
    }

    /// A number that nobody else has: for a connection or a session.
    pub fn number(&self) -> u32 {
        let mut inner = self.0.lock();
        inner.last_number += 1;
        inner.last_number
    }

    /// How many messages of each publisher were acknowledged by now.
    pub fn acked(&self) -> BTreeMap<Publisher, u64> {
        self.0.lock().acked.clone()
    }

    /// Everything up to now.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().entries.clone()
    }
}
