//! The few verbs that the client libraries have in common.

use std::pin::Pin;

/// Seconds that a session is to outlive its connection.
pub const EXPIRY: u32 = 300;

/// What a verb comes to; an error is in words.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// How a client connects.
#[derive(Clone)]
pub struct Options {
    pub scheme: String,
    pub version: u8,
    pub host: String,
    pub port: u16,
    pub ca: String,
    pub client_id: String,
    pub token: String,
    pub clean: bool,
    /// Whether the session outlives the connection.
    pub keep: bool,
    /// Topic and payload, at QoS 1.
    pub will: Option<(String, String)>,
}

impl Options {
    /// CleanSession of 3.1.1, Clean Start of 5.0.
    pub fn starts_clean(&self) -> bool {
        if self.version == 5 { self.clean } else { !self.keep }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
}

/// A library.
pub trait Client: Sync {
    fn version(&self) -> &'static str;
    /// Why it cannot play that.
    fn why_not(&self, scheme: &str, version: u8, transcript: &str) -> Option<&'static str>;
    /// How many plays may go on at the same time.
    fn at_once(&self) -> usize {
        4
    }
    fn connect(&self, options: Options) -> Doing<'_, Box<dyn Link>>;
}

/// A connection.
pub trait Link: Send {
    /// Session Present.
    fn present(&self) -> bool;
    fn subscribe(&mut self, topic: String, qos: u8) -> Doing<'_, ()>;
    /// Ends when it is acknowledged.
    fn publish(&mut self, topic: String, payload: Vec<u8>, qos: u8, retain: bool) -> Doing<'_, ()>;
    fn next(&mut self) -> Doing<'_, Message>;
    /// Waits until the server ends the connection; the reason code of its DISCONNECT.
    fn ended(&mut self) -> Doing<'_, Option<u8>>;
    fn disconnect(&mut self) -> Doing<'_, ()>;
}
