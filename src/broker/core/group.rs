//! Shared subscriptions of one broker, as one worker knows them (MQTT 5 §4.8.2): its own members, and which other workers
//! and nodes have some.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use slab::Slab;

use super::ConnKey;
use super::room::{DestIndex, Options};

/// Index of a group in its room's table.
pub type GroupId = u32;

/// Members of this worker that are looked at for one that can take a message. With more members, most of which are
/// behind, the next messages look at others.
const PROBES: usize = 32;

/// A connection of this worker that shares a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its client ID, hashed.
    pub client: u64,
    /// How it subscribed.
    pub options: Options,
}

/// One shared subscription.
#[derive(Debug)]
pub struct Group {
    /// `$share/name/filter`.
    pub filter: Arc<str>,
    members: BTreeMap<ConnKey, Member>,
    holders: BTreeSet<DestIndex>,
    last_member: Option<ConnKey>,
    last_holder: Option<DestIndex>,
    turn: usize,
}

impl Group {
    /// The member that `conn` is.
    pub fn member(&self, conn: ConnKey) -> Option<Member> {
        self.members.get(&conn).copied()
    }

    /// Members of this worker, the next in turn first; all of them, or as many as one choice looks at.
    pub fn members(&self, all: bool) -> impl Iterator<Item = (ConnKey, Member)> {
        let after = self.last_member.map_or(Bound::Unbounded, Bound::Excluded);
        let before = self.last_member.map(|last| self.members.range(..=last));
        let found = self.members.range((after, Bound::Unbounded)).chain(before.into_iter().flatten());
        found.map(|(conn, member)| (*conn, *member)).take(if all { usize::MAX } else { PROBES })
    }

    /// Workers and nodes that have members, the next in turn first.
    pub fn holders(&self) -> impl Iterator<Item = DestIndex> {
        let after = self.last_holder.map_or(Bound::Unbounded, Bound::Excluded);
        let before = self.last_holder.map(|last| self.holders.range(..=last));
        self.holders.range((after, Bound::Unbounded)).chain(before.into_iter().flatten()).copied()
    }

    /// How many members and holders there are, and whose turn it is: see `topics::choose`.
    pub fn turn(&self) -> (usize, usize, usize) {
        (self.members.len(), self.holders.len(), self.turn)
    }

    fn is_idle(&self) -> bool {
        self.members.is_empty() && self.holders.is_empty()
    }
}

/// The groups of a broker.
#[derive(Debug, Default)]
pub struct Groups {
    table: Slab<Group>,
    by_filter: BTreeMap<Arc<str>, GroupId>,
}

impl Groups {
    /// The group of `$share/name/filter`.
    pub fn find(&self, filter: &str) -> Option<GroupId> {
        self.by_filter.get(filter).copied()
    }

    /// The group in that place.
    pub fn get(&self, group: GroupId) -> Option<&Group> {
        self.table.get(group as usize)
    }

    /// A new group, which has nobody yet.
    pub fn add(&mut self, filter: Arc<str>) -> GroupId {
        let group = Group {
            filter: filter.clone(),
            members: BTreeMap::new(),
            holders: BTreeSet::new(),
            last_member: None,
            last_holder: None,
            turn: 0,
        };
        let id = self.table.insert(group) as GroupId;
        self.by_filter.insert(filter, id);
        id
    }

    /// Removes the group if it has nobody any more, and returns its filter then.
    pub fn remove_idle(&mut self, group: GroupId) -> Option<Arc<str>> {
        if !self.get(group)?.is_idle() {
            return None;
        }
        let gone = self.table.remove(group as usize);
        self.by_filter.remove(&gone.filter);
        Some(gone.filter)
    }

    /// Adds or replaces a member; whether it was one.
    pub fn join(&mut self, group: GroupId, conn: ConnKey, member: Member) -> bool {
        self.table.get_mut(group as usize).is_some_and(|group| group.members.insert(conn, member).is_some())
    }

    /// Takes a member out; whether it was one.
    pub fn leave(&mut self, group: GroupId, conn: ConnKey) -> bool {
        self.table.get_mut(group as usize).is_some_and(|group| group.members.remove(&conn).is_some())
    }

    /// The member `old` is `new` from now on.
    pub fn rename(&mut self, group: GroupId, old: ConnKey, new: ConnKey) {
        if let Some(group) = self.table.get_mut(group as usize)
            && let Some(member) = group.members.remove(&old)
        {
            group.members.insert(new, member);
        }
    }

    /// There are members at `dest`.
    pub fn add_holder(&mut self, group: GroupId, dest: DestIndex) {
        if let Some(group) = self.table.get_mut(group as usize) {
            group.holders.insert(dest);
        }
    }

    /// There are none any more.
    pub fn remove_holder(&mut self, group: GroupId, dest: DestIndex) {
        if let Some(group) = self.table.get_mut(group as usize) {
            group.holders.remove(&dest);
        }
    }

    /// The filters of the groups of which `dest` has members.
    pub fn held_by(&self, dest: DestIndex) -> Vec<Arc<str>> {
        self.table.iter().filter(|(_, g)| g.holders.contains(&dest)).map(|(_, g)| g.filter.clone()).collect()
    }

    /// The member got a message: the next one is another's.
    pub fn served(&mut self, group: GroupId, conn: ConnKey) {
        if let Some(group) = self.table.get_mut(group as usize) {
            group.last_member = Some(conn);
            group.turn = group.turn.wrapping_add(1);
        }
    }

    /// The destination got one.
    pub fn handed(&mut self, group: GroupId, dest: DestIndex) {
        if let Some(group) = self.table.get_mut(group as usize) {
            group.last_holder = Some(dest);
            group.turn = group.turn.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::codec::QoS;

    fn conn(index: u32) -> ConnKey {
        ConnKey { index, generation: 1 }
    }

    fn member() -> Member {
        let options = Options { qos: QoS::AtLeastOnce, no_local: false, retain_as_published: false, id: None };
        Member { client: 1, options }
    }

    #[test]
    fn turns_go_round_and_outlive_who_leaves() {
        let mut groups = Groups::default();
        let group = groups.add("$share/g/t".into());
        for index in 1..=3 {
            assert!(!groups.join(group, conn(index), member()));
        }
        assert!(groups.join(group, conn(1), member()));
        let mut got = Vec::new();
        for step in 0..6 {
            let (next, _) = groups.get(group).and_then(|g| g.members(false).next()).expect("there are some");
            groups.served(group, next);
            got.push(next.index);
            if step == 3 {
                assert!(groups.leave(group, conn(1)));
            }
        }
        assert_eq!(got, [1, 2, 3, 1, 2, 3]);
        groups.add_holder(group, 4);
        groups.leave(group, conn(2));
        groups.leave(group, conn(3));
        assert_eq!(groups.remove_idle(group), None);
        assert_eq!(groups.held_by(4), ["$share/g/t".into()]);
        groups.remove_holder(group, 4);
        assert_eq!(groups.remove_idle(group).as_deref(), Some("$share/g/t"));
        assert_eq!(groups.find("$share/g/t"), None);
    }
}
