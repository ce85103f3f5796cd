//! `rookery token`: API tokens. (Clients' credentials are `rookery broker issue`.)

use clap::Subcommand;
use rookery_proto::admin::tokens_client::TokensClient;
use rookery_proto::admin::{ApiToken, CreateTokenRequest, ListTokensRequest, RevokeTokenRequest};
use serde_json::{Value, json};

use super::Failure;
use super::broker::seconds;
use super::connect::{Api, request_id};
use super::output::{self, Output};
use crate::auth::Lifetime;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Create an API token. It is shown once; the cluster keeps a hash.
    Create {
        /// What it is for.
        name: String,
        /// How long it is good: 90s, 15m, 48h, 30d, 1w, or -1 for no end (the default).
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        expiration: Option<Lifetime>,
        /// Make it good for one account only, by id.
        #[arg(long, default_value = "")]
        account: String,
    },
    /// List the API tokens.
    List,
    /// Revoke an API token.
    Revoke {
        /// Id, or name if only one has it.
        token: String,
    },
}

pub(super) fn run(api: &Api, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { name, expiration, account } => {
            let message =
                CreateTokenRequest { name, expiration: seconds(expiration), account, request_id: request_id() };
            let reply = api.call(|via| {
                let message = message.clone();
                async move { TokensClient::new(via).create(message).await }
            })?;
            match api.output {
                Output::Table => output::print(&reply.secret),
                Output::Json => {
                    let mut made = object(&reply.token.unwrap_or_default());
                    made["token"] = reply.secret.into();
                    output::json(&made);
                }
            }
        }
        TokenCommand::List => {
            let reply =
                api.call(|via| async move { TokensClient::new(via).list(ListTokensRequest::default()).await })?;
            let objects: Vec<Value> = reply.tokens.iter().map(object).collect();
            output::list(api.output, &["name", "id", "account", "created_on", "expires_on"], &objects);
        }
        TokenCommand::Revoke { token } => {
            let message = RevokeTokenRequest { token: token.clone(), request_id: request_id() };
            api.call(|via| {
                let message = message.clone();
                async move { TokensClient::new(via).revoke(message).await }
            })?;
            output::done(api.output, &format!("API token {token} is revoked"));
        }
    }
    Ok(())
}

fn object(token: &ApiToken) -> Value {
    json!({
        "id": token.id,
        "name": token.name,
        "account": token.account,
        "created_on": token.created_on,
        "expires_on": token.expires_on,
    })
}
