//! From one peer life: what it wants.

use std::collections::VecDeque;

use super::workers::Workers;
use super::{Content, Interest, Interests, Link, Message};
use crate::handle::Holder;
use crate::ids::NodeId;

#[derive(Default)]
pub(super) struct Inbound {
    link: Option<Link>,
    /// Whether this link has brought its snapshot.
    begun: bool,
    last: u64,
    wanted: Interests,
    /// (token, message): the message is acknowledged once all workers have seen the token.
    waiting: VecDeque<(u64, u64)>,
    /// The token of the first snapshot.
    first: Option<u64>,
}

/// What came is not what follows.
#[derive(Debug)]
pub(super) struct Broken;

impl Inbound {
    pub(super) fn on_opened(&mut self, link: Link) {
        if self.link.is_none_or(|old| old < link) {
            self.link = Some(link);
            self.begun = false;
            // What the old link brought is acknowledged with the new one's snapshot.
            self.waiting.clear();
        }
    }

    /// Takes what the peer told; says nothing about messages of a link that was replaced.
    pub(super) fn on_received(
        &mut self,
        peer: NodeId,
        link: Link,
        message: Message,
        workers: &mut Workers,
    ) -> Result<(), Broken> {
        if self.link != Some(link) {
            return Ok(());
        }
        match message.content {
            Content::Snapshot(all) if !self.begun => {
                if self.first.is_none() {
                    // All workers hear of who begins to want something, even if that is nothing yet.
                    workers.clear(Holder::Peer(peer));
                }
                self.replace(peer, all, workers);
                self.begun = true;
                self.last = message.seq;
            }
            _ if self.begun && message.seq <= self.last => {}
            Content::Changes(changes) if self.begun && message.seq == self.last + 1 => {
                for (interest, wanted) in changes {
                    self.change(peer, interest, wanted, workers);
                }
                self.last = message.seq;
            }
            Content::Snapshot(_) | Content::Changes(_) => {
                self.link = None;
                return Err(Broken);
            }
        }
        let token = workers.due();
        self.first.get_or_insert(token);
        self.waiting.push_back((token, self.last));
        Ok(())
    }

    /// The last message that may be acknowledged now, and where.
    pub(super) fn acknowledge(&mut self, seen_through: u64) -> Option<(Link, u64)> {
        let mut through = None;
        while let Some((token, seq)) = self.waiting.front()
            && *token <= seen_through
        {
            through = Some(*seq);
            self.waiting.pop_front();
        }
        self.link.zip(through)
    }

    /// Whether all workers have applied a snapshot of this peer.
    pub(super) fn complete(&self, seen_through: u64) -> bool {
        self.first.is_some_and(|token| token <= seen_through)
    }

    pub(super) fn wanted(&self) -> &Interests {
        &self.wanted
    }

    /// Only the difference goes to the workers: after a short break that is next to nothing.
    fn replace(&mut self, peer: NodeId, all: Interests, workers: &mut Workers) {
        for gone in self.wanted.iter().filter(|old| !all.contains(*old)) {
            workers.change(Holder::Peer(peer), gone.clone(), false);
        }
        for new in all.iter().filter(|new| !self.wanted.contains(*new)) {
            workers.change(Holder::Peer(peer), new.clone(), true);
        }
        self.wanted = all;
    }

    fn change(&mut self, peer: NodeId, interest: Interest, wanted: bool, workers: &mut Workers) {
        let changed = if wanted {
            self.wanted.insert(interest.clone()).is_none()
        } else {
            self.wanted.remove(&interest).is_some()
        };
        if changed {
            workers.change(Holder::Peer(peer), interest, wanted);
        }
    }
}
