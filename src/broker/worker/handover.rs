//! Sessions that come from another worker or go to one, as far as this worker's thread is concerned.

use rookery_cluster::handle::{Holder, Home, SessionAsked};
use rookery_cluster::ids::BrokerId;

use super::super::core::{ConnKey, Input};
use super::super::mailbox::{Answer, Drained, Mail};
use super::Shared;

/// Sessions on the move that may wait for this worker at one time: each belongs to a CONNECT elsewhere, which is told to
/// try again (0x88) when there are more.
const MAX_DRAINS: usize = 16_384;

impl Shared {
    /// Asks where a session is kept: by the cluster, which sees to R14's fences, though it be a sibling.
    pub(super) fn fetch(&self, conn: ConnKey, home: Home, asked: SessionAsked) {
        let mailbox = self.mailbox();
        let answer: Answer = Box::new(move |reply| mailbox.post(Mail::Fetched { conn, reply }));
        self.config.services.clone().fetch(self.config.id, home, asked, answer);
    }

    fn ticket(&self) -> u64 {
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket + 1);
        ticket
    }

    pub(super) fn drain(&self, broker: BrokerId, to: Holder, answer: Drained) {
        if self.drains.borrow().len() >= MAX_DRAINS {
            return answer(false);
        }
        let ticket = self.ticket();
        self.drains.borrow_mut().insert(ticket, answer);
        self.step(Input::Drain { ticket, broker, to });
    }

    pub(super) fn asked(&self, asked: &SessionAsked, answer: Answer) {
        let ticket = self.ticket();
        self.tickets.borrow_mut().insert(ticket, answer);
        self.step(Input::Asked { ticket, asked });
    }
}
