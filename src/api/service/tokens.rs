//! Actions on API tokens.

use rookery_cluster::clock::UnixMillis;
use rookery_cluster::ids::{AccountId, TokenId};
use rookery_cluster::metadata::{ApiToken, CommandBody, Created, Scope, State};

use super::{Caller, Service, misrouted};
use crate::api::action::{Action, Target};
use crate::api::error::{ApiError, ApiErrorKind};
use crate::api::reply::{Reply, TokenView};
use crate::auth::{Lifetime, new_api_token};

impl Service {
    pub(super) async fn tokens(&self, caller: Caller, action: Action) -> Result<Reply, ApiError> {
        match action {
            Action::CreateToken { name, expiration, account } => {
                self.create_token(caller, name, expiration, account).await
            }
            Action::ListTokens => {
                let state = self.read().await?;
                let mut list: Vec<_> = state.tokens().filter(|t| caller.may_manage(t)).map(|t| view(t)).collect();
                list.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
                Ok(Reply::Tokens(list))
            }
            Action::RevokeToken { token } => {
                let command = |state: &State| Ok(CommandBody::RevokeToken { id: caller.token(state, &token)? });
                self.restrict(caller, command).await
            }
            other => Err(misrouted(&other)),
        }
    }

    async fn create_token(
        &self,
        caller: Caller,
        name: String,
        expiration: Option<Lifetime>,
        account: Option<AccountId>,
    ) -> Result<Reply, ApiError> {
        let scope = account.map_or(caller.scope, Scope::Account);
        if let Some(account) = account.filter(|account| !caller.scope.covers(*account)) {
            return Err(ApiError::not_found(format!("there is no account {account}")));
        }
        let expires = match expiration {
            Some(Lifetime::Seconds(s)) => Some(UnixMillis(self.0.clock.wall().0 + s * 1000)),
            Some(Lifetime::Never) | None => None,
        };
        let new = new_api_token(self.0.rng.as_ref());
        let body = CommandBody::CreateToken { id: new.id, hash: new.hash, name, scope, expires };
        let (index, created) = self.write(caller, |_| Ok(body)).await?;
        if created != Some(Created::Token(new.id)) {
            return Err(made_before("API token", "list the API tokens, revoke it and make another"));
        }
        let state = self.see(index).await?;
        let token = state.token(new.id).ok_or_else(|| ApiError::not_found("the API token was revoked meanwhile"))?;
        Ok(Reply::NewToken(view(token), new.text))
    }
}

/// A retry of a call that made a secret: the first try's is gone.
pub(super) fn made_before(what: &str, then: &str) -> ApiError {
    let message = format!("the first try of this request made the {what}, whose secret was in its answer only; {then}");
    ApiError::new(ApiErrorKind::AlreadyExists, message)
}

impl Caller {
    fn may_manage(self, token: &ApiToken) -> bool {
        match token.scope {
            Scope::All => self.scope == Scope::All,
            Scope::Account(account) => self.scope.covers(account),
        }
    }

    fn token(self, state: &State, target: &Target<TokenId>) -> Result<TokenId, ApiError> {
        let mine = || state.tokens().filter(|token| self.may_manage(token));
        if let Target::Id(id, _) = target
            && mine().any(|token| token.id == *id)
        {
            return Ok(*id);
        }
        let mut named = mine().filter(|token| token.name == target.text());
        match (named.next(), named.next()) {
            (Some(token), None) => Ok(token.id),
            (Some(_), Some(_)) => Err(ApiError::new(
                ApiErrorKind::Precondition,
                format!("several API tokens are named {:?}: give the id of one", target.text()),
            )),
            (None, _) => Err(ApiError::not_found(format!("there is no API token {:?}", target.text()))),
        }
    }
}

fn view(token: &ApiToken) -> TokenView {
    let account = match token.scope {
        Scope::All => None,
        Scope::Account(account) => Some(account),
    };
    TokenView { id: token.id, name: token.name.clone(), created_on: token.created_on, expires: token.expires, account }
}
