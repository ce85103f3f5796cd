//! Which requests were carried out, and to what outcome (R17). Part of the snapshot; evicted by log order, so that
//! all replicas forget at the same command.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::maps;
use super::outcome::Outcome;
use crate::ids::RequestId;
use crate::limits::REQUEST_MEMORY;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Requests {
    #[serde(deserialize_with = "maps::read")]
    outcomes: OrdMap<RequestId, Outcome>,
    #[serde(deserialize_with = "maps::read")]
    order: OrdMap<u64, RequestId>,
    next: u64,
}

impl Requests {
    pub(super) fn outcome(&self, id: RequestId) -> Option<&Outcome> {
        self.outcomes.get(&id)
    }

    pub(super) fn remember(&mut self, id: RequestId, outcome: Outcome) {
        self.outcomes.insert(id, outcome);
        self.order.insert(self.next, id);
        self.next += 1;
        if let Some(oldest) = self.next.checked_sub(1 + REQUEST_MEMORY as u64)
            && let Some(id) = self.order.remove(&oldest)
        {
            self.outcomes.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_only() {
        let mut requests = Requests::default();
        for n in 0..REQUEST_MEMORY as u128 + 2 {
            requests.remember(RequestId(n), Outcome::Done);
        }
        assert_eq!(requests.outcomes.len(), REQUEST_MEMORY);
        assert_eq!(requests.order.len(), REQUEST_MEMORY);
        assert_eq!(requests.outcome(RequestId(1)), None);
        assert_eq!(requests.outcome(RequestId(2)), Some(&Outcome::Done));
    }
}
