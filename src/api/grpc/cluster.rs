//! `rookery.admin.v1.Cluster`.

use rookery_proto::admin::cluster_server::Cluster;
use rookery_proto::admin::{
    CreateJoinTokenReply, CreateJoinTokenRequest, Group, Member, MembersReply, MembersRequest, NodeLease,
    RemoveNodeReply, RemoveNodeRequest, StatusReply, StatusRequest,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Door, misplaced};
use crate::api::action::{Action, join_token, remove_node};
use crate::api::reply::{GroupView, LeaseView, MemberView, Reply};
use crate::api::time::rfc3339;

#[async_trait]
impl Cluster for Door {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let Reply::Status(view) = self.run(request.metadata(), "", Ok(Action::Status)).await? else {
            return Err(misplaced());
        };
        Ok(Response::new(StatusReply {
            node: view.node.0,
            version: view.version.to_owned(),
            ready: view.ready.is_ok(),
            not_ready_because: view.ready.err().unwrap_or_default(),
            groups: view.groups.into_iter().map(group).collect(),
            leases: view.leases.into_iter().map(lease).collect(),
            settled: view.settled.is_ok(),
            not_settled_because: view.settled.err().unwrap_or_default(),
        }))
    }

    async fn members(&self, request: Request<MembersRequest>) -> Result<Response<MembersReply>, Status> {
        match self.run(request.metadata(), "", Ok(Action::Members)).await? {
            Reply::Members(list) => Ok(Response::new(MembersReply { members: list.into_iter().map(member).collect() })),
            _ => Err(misplaced()),
        }
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = join_token(r.expiration, r.uses);
        match self.run(&metadata, &r.request_id, action).await? {
            Reply::JoinToken { token, expires, ca_hash } => {
                Ok(Response::new(CreateJoinTokenReply { token, expires_on: rfc3339(expires), ca_pin: ca_hash }))
            }
            _ => Err(misplaced()),
        }
    }

    async fn remove_node(&self, request: Request<RemoveNodeRequest>) -> Result<Response<RemoveNodeReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        match self.run(&metadata, &r.request_id, remove_node(r.node)).await? {
            Reply::Done => Ok(Response::new(RemoveNodeReply {})),
            _ => Err(misplaced()),
        }
    }
}

fn group(view: GroupView) -> Group {
    let status = view.status;
    Group {
        id: view.id.0,
        leader: status.leader.map_or(0, |node| node.0),
        term: status.term,
        applied: status.applied.0,
        voters: status.voters.iter().map(|node| node.0).collect(),
        learners: status.learners.iter().map(|node| node.0).collect(),
        stopped: status.stopped.unwrap_or_default(),
    }
}

fn lease(view: LeaseView) -> NodeLease {
    NodeLease {
        node: view.node.0,
        name: view.name,
        incarnation: view.incarnation.0,
        state: view.state.to_owned(),
        since: if view.incarnation.0 == 0 { String::new() } else { rfc3339(view.since) },
    }
}

fn member(view: MemberView) -> Member {
    Member {
        id: view.id.0,
        name: view.name,
        incarnation: view.incarnation.0,
        address: view.address,
        state: view.state.to_owned(),
        role: view.role.to_owned(),
        region: view.region,
        zone: view.zone,
        version: view.version,
        leased: view.leased,
        leaving: view.leaving,
    }
}
