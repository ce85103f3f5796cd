//! Messages for shared subscriptions whose receiving node ended before it had accepted them: members elsewhere get them.
//!
//! The node may have given one to a member before it ended. At QoS 1 the group then gets it once more; at QoS 2 it must not
//! (MQTT-4.8.2-5), so there it is dropped and counted.

use super::dest::Directed;
use super::direct::Directions;
use super::room::DestIndex;
use super::share::Errand;
use super::transfer::{self, Item};
use super::{Core, DropReason, once};
use crate::mqtt::codec::{QoS, Sender, Version, decode_publish};
use crate::mqtt::session::Message;

impl Core {
    /// Gives on what `gone` did not accept for members of shared subscriptions.
    pub(super) fn give_on(&mut self, gone: DestIndex, all: &[Directed]) {
        for (broker, body) in all {
            let room = self.room(*broker);
            if self.give_on_run(room, gone, body).is_none() {
                self.stats.drop(DropReason::Corrupt, 1);
            }
            self.drop_idle_room(room);
        }
    }

    /// `None` at bytes that this worker cannot have written.
    fn give_on_run(&mut self, room: usize, gone: DestIndex, mut rest: &[u8]) -> Option<()> {
        while !rest.is_empty() {
            let mut name = None;
            if once::ahead(rest) {
                let (read, after) = once::decode(rest)?;
                (name, rest) = (Some(read), after);
            }
            let mut directions = None;
            if Directions::ahead(rest) {
                let (read, after) = Directions::decode(rest)?;
                (directions, rest) = (Some(read), after);
            }
            let item = transfer::take(&mut rest)?;
            let (Some(directions), Item::Publish(first, body)) = (directions, item) else { continue };
            let publish = decode_publish(Version::V5, Sender::Client, first, body).ok()?;
            let mut message = Message::new(publish.topic, &publish);
            message.will = name;
            self.give_on_one(room, gone, &directions, &mut message);
        }
        Some(())
    }

    fn give_on_one(&mut self, room: usize, gone: DestIndex, directions: &Directions<'_>, message: &mut Message<'_>) {
        match message.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                let errand = Errand::anew(directions, gone, message);
                for filter in directions.filters() {
                    message.mark = self.next_mark(message.qos);
                    self.stats.publishes_redelivered += 1;
                    self.route(self.clock, room, filter, errand, message);
                }
            }
            QoS::ExactlyOnce => {
                self.drop_in(room, DropReason::ShareUnfinished, directions.filters().count() as u64);
            }
        }
    }
}
