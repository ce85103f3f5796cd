//! R14's fence: before a session leaves the node that keeps it, everybody has handed that node what they had for it. What
//! is published after that goes to the session's next node as well, which has told everybody of its subscriptions.

use std::time::Duration;

use futures_util::future::{join, join_all};

use super::{KeptSessions, SharedControl, SharedMeta};
use crate::handle::Home;
use crate::ids::{BrokerId, NodeId, NodeLife};
use crate::limits::SESSION_FENCE_TIMEOUT;

/// Pause after an attempt that failed at once.
const PAUSE: Duration = Duration::from_millis(50);

/// Resolves when every live node has handed `home` what it had of `broker` for it, or has ended; `false` if one did neither
/// within `limits::SESSION_FENCE_TIMEOUT`. To be called when all of them know of the next node's subscriptions.
pub async fn fence(
    me: NodeId,
    meta: &SharedMeta,
    control: &SharedControl,
    kept: &dyn KeptSessions,
    broker: BrokerId,
    home: Home,
) -> bool {
    let others = meta.live().into_iter().filter(|life| life.node != me);
    let others = join_all(others.map(|life| one(meta, control, life, broker, home)));
    let all = async {
        let (here, _) = join(kept.drained(broker, home), others).await;
        here
    };
    tokio::time::timeout(SESSION_FENCE_TIMEOUT, all).await.unwrap_or(false)
}

async fn one(meta: &SharedMeta, control: &SharedControl, life: NodeLife, broker: BrokerId, home: Home) {
    // An answer of a later life says that this one has ended.
    while !meta.has_ended(life)
        && !control.drain(life.node, broker, home, SESSION_FENCE_TIMEOUT).await.is_ok_and(|other| other >= life)
    {
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::testing::{Node, World};
    use crate::consensus::BoxFuture;
    use crate::control::SessionReply;
    use crate::handle::SessionAsked;
    use crate::ids::WorkerId;

    struct Kept(bool);

    impl KeptSessions for Kept {
        fn asked(&self, _: WorkerId, _: SessionAsked) -> BoxFuture<'_, Option<SessionReply>> {
            Box::pin(async { None })
        }

        fn drained(&self, _: BrokerId, _: Home) -> BoxFuture<'_, bool> {
            Box::pin(async { self.0 })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r14_every_live_node_is_heard_or_has_ended_before_a_session_leaves() {
        let world = World::new();
        let (one, two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
        let three = Node::start(&world, 3).await;
        let home = Home { life: two.lease.life().expect("a life"), worker: WorkerId(0) };
        let fence = |kept: bool| {
            let (meta, control) = (one.meta.clone(), one.control.clone());
            async move { fence(NodeId(1), &meta, &control, &Kept(kept), BrokerId(9), home).await }
        };
        assert!(fence(true).await);
        assert!(!fence(false).await, "its own workers count as well");
        world.cut(NodeId(3));
        assert!(!fence(true).await, "it may have something on its way");
        let ended = three.lease.life().expect("a life");
        one.meta.expire(ended, None).await.expect("proposed");
        assert!(fence(true).await, "nothing of it is waited for any more");
    }
}
