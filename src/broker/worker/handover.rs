//! Sessions that come from another worker or go to one, as far as this worker's thread is concerned.

use rookery_cluster::handle::{Holder, Home};
use rookery_cluster::ids::BrokerId;

use super::super::core::{ConnKey, Fetched, Input};
use super::super::mailbox::{Answer, Asked, Drained, Mail};
use super::Shared;

/// Sessions on the move that may wait for this worker at one time: each belongs to a CONNECT elsewhere, which is told to
/// try again (0x88) when there are more.
const MAX_DRAINS: usize = 16_384;

impl Shared {
    /// Asks where a session is kept: a sibling by its mailbox, another node by the cluster. It is taken by the cluster in
    /// any case, which sees to R14's fence.
    pub(super) fn fetch(&self, conn: ConnKey, home: Home, asked: Asked) {
        let mailbox = self.mailbox();
        let answer: Answer = Box::new(move |reply| mailbox.post(Mail::Fetched { conn, reply }));
        if asked.take || home.life != self.config.life {
            return self.config.services.clone().fetch(home, asked, answer);
        }
        match self.config.mailboxes.get(usize::from(home.worker.0)) {
            Some(sibling) => sibling.post(Mail::Asked { asked, answer }),
            None => answer(Fetched::Gone),
        }
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

    pub(super) fn asked(&self, asked: &Asked, answer: Answer) {
        let ticket = self.ticket();
        self.tickets.borrow_mut().insert(ticket, answer);
        let Asked { broker, client, session, take } = asked;
        self.step(Input::Asked { ticket, broker: *broker, client, session: *session, take: *take });
    }
}
