//! Towards one peer life: what this node wants.

use std::collections::BTreeMap;

use super::{Content, IN_FLIGHT, Interest, Interests, Link, Message};

#[derive(Default)]
pub(super) struct Outbound {
    link: Option<Link>,
    /// What the snapshot of this link follows; nothing before counts as in flight.
    base: u64,
    sent: u64,
    acknowledged: u64,
    /// What changed since `sent`, while there is a link. Without one, the next snapshot says it.
    changed: BTreeMap<Interest, bool>,
}

impl Outbound {
    /// The message whose acknowledgement means that the peer knows everything said so far.
    pub(super) fn due(&self) -> u64 {
        self.sent + u64::from(self.link.is_none() || !self.changed.is_empty())
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(super) fn change(&mut self, interest: &Interest, wanted: bool) {
        if self.link.is_some() {
            self.changed.insert(interest.clone(), wanted);
        }
    }

    /// A new link begins with everything.
    pub(super) fn on_connected(&mut self, link: Link, all: &Interests) -> Message {
        self.link = Some(link);
        self.base = self.sent;
        self.changed.clear();
        self.next(Content::Snapshot(all.clone()))
    }

    pub(super) fn on_disconnected(&mut self, link: Link) {
        if self.link == Some(link) {
            self.link = None;
            self.changed.clear();
        }
    }

    pub(super) fn on_acknowledged(&mut self, link: Link, through: u64) {
        // An acknowledgement on an older link may be of a snapshot that this one repeats: true all the same,
        // but the newer link brings its own.
        if self.link == Some(link) && through <= self.sent {
            self.acknowledged = self.acknowledged.max(through);
        }
    }

    /// What changed, if the peer has not enough before it.
    pub(super) fn pump(&mut self) -> Option<(Link, Message)> {
        let link = self.link?;
        if self.changed.is_empty() || self.sent - self.acknowledged.max(self.base) >= IN_FLIGHT {
            return None;
        }
        let changes = std::mem::take(&mut self.changed);
        Some((link, self.next(Content::Changes(changes))))
    }

    fn next(&mut self, content: Content) -> Message {
        self.sent += 1;
        Message { seq: self.sent, content }
    }
}
