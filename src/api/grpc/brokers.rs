//! `rookery.admin.v1.Brokers`.

use rookery_proto::admin::brokers_server::Brokers;
use rookery_proto::admin::{
    Broker, CreateBrokerRequest, Credential, DeleteBrokerReply, DeleteBrokerRequest, DescribeBrokerRequest, IssueReply,
    IssueRequest, Jwk, ListBrokersReply, ListBrokersRequest, PublicKeysReply, PublicKeysRequest, Revocation,
    RevokeReply, RevokeRequest, ShowRevocationsReply, ShowRevocationsRequest, UnrevokeReply, UnrevokeRequest,
    UpdateBrokerRequest,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Door, misplaced};
use crate::api::action::{Action, BrokerRef, Target, clients, jtis, lifetime, new_name, topic_acl};
use crate::api::error::ApiError;
use crate::api::limits::{limits, preset};
use crate::api::reply::{BrokerView, Reply};
use crate::api::time::rfc3339;
use crate::auth::Order;

#[async_trait]
impl Brokers for Door {
    async fn create(&self, request: Request<CreateBrokerRequest>) -> Result<Response<Broker>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = Target::parse("namespace", &r.namespace).and_then(|namespace| {
            let (name, expiration) = (new_name(&r.name)?, lifetime(r.expiration)?);
            let (preset, limits) = (preset(&r.preset)?.unwrap_or_default(), limits(&r.limits)?);
            Ok(Action::CreateBroker { namespace, name, description: r.description, expiration, preset, limits })
        });
        one(self.run(&metadata, &r.request_id, action).await?)
    }

    async fn update(&self, request: Request<UpdateBrokerRequest>) -> Result<Response<Broker>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = BrokerRef::parse(&r.namespace, &r.broker).and_then(|broker| {
            let expiration = lifetime(r.expiration)?;
            let (preset, limits) = (preset(&r.preset)?, limits(&r.limits)?);
            Ok(Action::UpdateBroker { broker, description: r.description, expiration, preset, limits })
        });
        one(self.run(&metadata, &r.request_id, action).await?)
    }

    async fn list(&self, request: Request<ListBrokersRequest>) -> Result<Response<ListBrokersReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = Target::parse("namespace", &r.namespace).map(|namespace| Action::ListBrokers { namespace });
        match self.run(&metadata, "", action).await? {
            Reply::Brokers(list) => {
                Ok(Response::new(ListBrokersReply { brokers: list.into_iter().map(message).collect() }))
            }
            _ => Err(misplaced()),
        }
    }

    async fn describe(&self, request: Request<DescribeBrokerRequest>) -> Result<Response<Broker>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = BrokerRef::parse(&r.namespace, &r.broker).map(|broker| Action::DescribeBroker { broker });
        one(self.run(&metadata, "", action).await?)
    }

    async fn delete(&self, request: Request<DeleteBrokerRequest>) -> Result<Response<DeleteBrokerReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = BrokerRef::parse(&r.namespace, &r.broker).map(|broker| Action::DeleteBroker { broker });
        self.run(&metadata, &r.request_id, action).await?;
        Ok(Response::new(DeleteBrokerReply {}))
    }

    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = issue_action(r);
        let Reply::Issued(list) = self.run(&metadata, "", action).await? else { return Err(misplaced()) };
        let credentials = list.into_iter().map(|c| Credential {
            client_id: c.client_id,
            token: c.token,
            jti: c.jti,
            expires_on: c.expires.map(rfc3339),
        });
        Ok(Response::new(IssueReply { credentials: credentials.collect() }))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = BrokerRef::parse(&r.namespace, &r.broker)
            .and_then(|broker| Ok(Action::Revoke { broker, jtis: jtis(r.jtis)? }));
        self.run(&metadata, &r.request_id, action).await?;
        Ok(Response::new(RevokeReply {}))
    }

    async fn unrevoke(&self, request: Request<UnrevokeRequest>) -> Result<Response<UnrevokeReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = BrokerRef::parse(&r.namespace, &r.broker)
            .and_then(|broker| Ok(Action::Unrevoke { broker, jtis: jtis(r.jtis)? }));
        self.run(&metadata, &r.request_id, action).await?;
        Ok(Response::new(UnrevokeReply {}))
    }

    async fn show_revocations(
        &self,
        request: Request<ShowRevocationsRequest>,
    ) -> Result<Response<ShowRevocationsReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = BrokerRef::parse(&r.namespace, &r.broker).map(|broker| Action::ShowRevocations { broker });
        let Reply::Revocations(list) = self.run(&metadata, "", action).await? else { return Err(misplaced()) };
        let revocations = list.into_iter().map(|r| Revocation { jti: r.jti, revoked_on: rfc3339(r.revoked_on) });
        Ok(Response::new(ShowRevocationsReply { revocations: revocations.collect() }))
    }

    async fn public_keys(&self, request: Request<PublicKeysRequest>) -> Result<Response<PublicKeysReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = BrokerRef::parse(&r.namespace, &r.broker).map(|broker| Action::PublicKeys { broker });
        let Reply::Keys(set) = self.run(&metadata, "", action).await? else { return Err(misplaced()) };
        let keys = set.keys.into_iter().map(|k| Jwk {
            kty: k.kty,
            crv: k.crv,
            alg: k.alg,
            r#use: k.usage,
            kid: k.kid,
            x: k.x,
        });
        Ok(Response::new(PublicKeysReply { keys: keys.collect() }))
    }
}

fn issue_action(r: IssueRequest) -> Result<Action, ApiError> {
    Ok(Action::Issue {
        broker: BrokerRef::parse(&r.namespace, &r.broker)?,
        order: Order {
            clients: clients(r.number, r.client_ids)?,
            acl: topic_acl(r.topic_acl, r.publish, r.subscribe)?,
            lifetime: lifetime(r.expiration)?,
        },
    })
}

fn one(reply: Reply) -> Result<Response<Broker>, Status> {
    match reply {
        Reply::Broker(view) => Ok(Response::new(message(view))),
        _ => Err(misplaced()),
    }
}

fn message(view: BrokerView) -> Broker {
    Broker {
        id: view.id.to_string(),
        name: view.name,
        description: view.description,
        auth_type: "TOKEN".to_owned(),
        created_on: rfc3339(view.created_on),
        modified_on: rfc3339(view.modified_on),
        expiration: view.expiration.and_then(|seconds| i64::try_from(seconds).ok()),
        endpoint: view.endpoint,
        namespace: view.namespace,
        preset: view.preset.to_owned(),
        limits: view.limits.into_iter().map(|(key, text)| (key.to_owned(), text)).collect(),
    }
}
