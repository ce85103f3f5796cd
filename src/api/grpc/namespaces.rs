//! `rookery.admin.v1.Namespaces`.

use rookery_proto::admin::namespaces_server::Namespaces;
use rookery_proto::admin::{
    CreateNamespaceRequest, DeleteNamespaceReply, DeleteNamespaceRequest, DescribeNamespaceRequest,
    ListNamespacesReply, ListNamespacesRequest, Namespace,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Door, misplaced};
use crate::api::action::{Action, Target, account, new_name};
use crate::api::limits::preset;
use crate::api::reply::{NamespaceView, Reply};
use crate::api::time::rfc3339;

#[async_trait]
impl Namespaces for Door {
    async fn create(&self, request: Request<CreateNamespaceRequest>) -> Result<Response<Namespace>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = new_name(&r.name).and_then(|name| {
            let (account, preset) = (account(&r.account)?, preset(&r.preset)?.unwrap_or_default());
            Ok(Action::CreateNamespace { name, description: r.description, account, preset })
        });
        one(self.run(&metadata, &r.request_id, action).await?)
    }

    async fn list(&self, request: Request<ListNamespacesRequest>) -> Result<Response<ListNamespacesReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = account(&r.account).map(|account| Action::ListNamespaces { account });
        match self.run(&metadata, "", action).await? {
            Reply::Namespaces(list) => {
                Ok(Response::new(ListNamespacesReply { namespaces: list.into_iter().map(message).collect() }))
            }
            _ => Err(misplaced()),
        }
    }

    async fn describe(&self, request: Request<DescribeNamespaceRequest>) -> Result<Response<Namespace>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = Target::parse("namespace", &r.namespace).map(|namespace| Action::DescribeNamespace { namespace });
        one(self.run(&metadata, "", action).await?)
    }

    async fn delete(&self, request: Request<DeleteNamespaceRequest>) -> Result<Response<DeleteNamespaceReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = Target::parse("namespace", &r.namespace).map(|namespace| Action::DeleteNamespace { namespace });
        self.run(&metadata, &r.request_id, action).await?;
        Ok(Response::new(DeleteNamespaceReply {}))
    }
}

fn one(reply: Reply) -> Result<Response<Namespace>, Status> {
    match reply {
        Reply::Namespace(view) => Ok(Response::new(message(view))),
        _ => Err(misplaced()),
    }
}

fn message(view: NamespaceView) -> Namespace {
    Namespace {
        id: view.id.to_string(),
        name: view.name,
        description: view.description,
        created_on: rfc3339(view.created_on),
        modified_on: rfc3339(view.modified_on),
    }
}
