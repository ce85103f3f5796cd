//! The one way to change the state.

use super::command::{Command, CommandBody as Body};
use super::journal::Change;
use super::level::Level;
use super::outcome::{Outcome, Refused};
use super::state::State;
use super::{accounts, brokers, cluster, keys, leaving, namespaces, nodes, placement, revocations, tokens};
use crate::clock::UnixMillis;
use crate::ids::LogIndex;

/// What a command's handler may know besides the state.
#[derive(Clone, Copy)]
pub(super) struct Cx {
    pub(super) index: LogIndex,
    pub(super) at: UnixMillis,
}

/// What a handler answers. A refusal means that it has changed nothing.
pub(super) type Answer = Result<Outcome, Refused>;

/// Applies one command. Deterministic. A request that was applied before gets its first outcome again and changes
/// nothing; a refused one changes nothing either.
pub fn apply(state: &mut State, index: LogIndex, command: &Command) -> Outcome {
    state.last_command = index;
    state.applied = state.applied.max(index);
    if let Some(outcome) = state.requests.outcome(command.request_id) {
        return outcome.clone();
    }
    let cx = Cx { index, at: command.at };
    let outcome = match run(state, cx, &command.body) {
        Ok(outcome) => outcome,
        Err(refused) => Outcome::Refused(refused),
    };
    state.requests.remember(command.request_id, outcome.clone());
    outcome
}

fn run(state: &mut State, cx: Cx, body: &Body) -> Answer {
    permitted(state.level, body.level())?;
    match body {
        Body::InitCluster { .. } | Body::AddJoinToken { .. } | Body::RemoveJoinToken { .. } => {
            cluster::run(state, cx, body)
        }
        Body::RaiseLevel { to } => raise_level(state, cx, *to),
        Body::CreateAccount { .. } | Body::UpdateAccount { .. } | Body::DeleteAccount { .. } => {
            accounts::run(state, cx, body)
        }
        Body::CreateNamespace { .. } | Body::UpdateNamespace { .. } | Body::DeleteNamespace { .. } => {
            namespaces::run(state, cx, body)
        }
        Body::CreateBroker { id, namespace, name, settings, keys } => {
            brokers::create(state, cx, *id, *namespace, name, settings, keys)
        }
        Body::UpdateBroker { id, patch } => brokers::update(state, cx, *id, patch),
        Body::ChangeBroker { id, patch, limits } => brokers::change(state, cx, *id, patch, limits),
        Body::DeleteBroker { id } => brokers::delete(state, cx, *id),
        Body::RotateKeys { broker, next } => keys::rotate(state, cx, *broker, next),
        Body::RemoveKey { broker, kid } => keys::remove(state, cx, *broker, kid),
        Body::Revoke { broker, jtis } => revocations::revoke(state, cx, *broker, jtis),
        Body::Unrevoke { broker, jtis } => revocations::unrevoke(state, cx, *broker, jtis),
        Body::CreateToken { .. } | Body::RevokeToken { .. } => tokens::run(state, cx, body),
        Body::AddNode { .. } | Body::SetNodeKey { .. } | Body::RemoveNode { .. } => nodes::run(state, cx, body),
        Body::RegisterIncarnation { node, incarnation, card } => nodes::register(state, cx, *node, *incarnation, card),
        Body::ExpireLease { life } => nodes::expire(state, cx, *life),
        Body::LeadLeases { term } => nodes::lead_leases(state, *term),
        Body::ExpireLeaseInTerm { life, term } => nodes::expire_in_term(state, cx, *life, *term),
        Body::LeaveNode { .. } | Body::LeftGroups { .. } => leaving::run(state, cx, body),
        Body::SetReplicas { groups } => placement::set_replicas(state, cx, groups),
    }
}

/// A command of a level that is not committed yet is refused by every replica alike (R17).
fn permitted(committed: Level, needed: Level) -> Result<(), Refused> {
    if needed > committed {
        return Err(Refused::precondition(format!("needs level {needed}, the cluster is at level {committed}")));
    }
    Ok(())
}

fn raise_level(state: &mut State, cx: Cx, to: Level) -> Answer {
    if let Some(node) = state.nodes().find(|n| n.card.level < to) {
        let (name, highest) = (&node.name, node.card.level);
        return Err(Refused::precondition(format!("node {name} supports level {highest} at most, not {to}")));
    }
    if to > state.level {
        state.level = to;
        state.note(cx.index, Change::Cluster);
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::RefusedKind;

    #[test]
    fn a_command_waits_for_its_level() {
        assert_eq!(permitted(Level(2), Level(2)), Ok(()));
        assert_eq!(permitted(Level(1), Level(2)).map_err(|r| r.kind), Err(RefusedKind::Precondition));
    }
}
