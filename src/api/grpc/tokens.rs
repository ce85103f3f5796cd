//! `rookery.admin.v1.Tokens`.

use rookery_proto::admin::tokens_server::Tokens;
use rookery_proto::admin::{
    ApiToken, CreateTokenReply, CreateTokenRequest, ListTokensReply, ListTokensRequest, RevokeTokenReply,
    RevokeTokenRequest,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Door, misplaced};
use crate::api::action::{Action, Target, account, lifetime};
use crate::api::reply::{Reply, TokenView};
use crate::api::time::rfc3339;

#[async_trait]
impl Tokens for Door {
    async fn create(&self, request: Request<CreateTokenRequest>) -> Result<Response<CreateTokenReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = lifetime(r.expiration)
            .and_then(|expiration| Ok(Action::CreateToken { name: r.name, expiration, account: account(&r.account)? }));
        match self.run(&metadata, &r.request_id, action).await? {
            Reply::NewToken(view, secret) => Ok(Response::new(CreateTokenReply { token: Some(message(view)), secret })),
            _ => Err(misplaced()),
        }
    }

    async fn list(&self, request: Request<ListTokensRequest>) -> Result<Response<ListTokensReply>, Status> {
        match self.run(request.metadata(), "", Ok(Action::ListTokens)).await? {
            Reply::Tokens(list) => {
                Ok(Response::new(ListTokensReply { tokens: list.into_iter().map(message).collect() }))
            }
            _ => Err(misplaced()),
        }
    }

    async fn revoke(&self, request: Request<RevokeTokenRequest>) -> Result<Response<RevokeTokenReply>, Status> {
        let (metadata, _, r) = request.into_parts();
        let action = Target::parse("token", &r.token).map(|token| Action::RevokeToken { token });
        self.run(&metadata, &r.request_id, action).await?;
        Ok(Response::new(RevokeTokenReply {}))
    }
}

fn message(view: TokenView) -> ApiToken {
    ApiToken {
        id: view.id.to_string(),
        name: view.name,
        created_on: rfc3339(view.created_on),
        expires_on: view.expires.map(rfc3339),
        account: view.account.map(|account| account.to_string()).unwrap_or_default(),
    }
}
