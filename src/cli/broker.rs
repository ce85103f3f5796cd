//! `rookery broker`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use rookery_proto::admin::brokers_client::BrokersClient;
use rookery_proto::admin::{
    Broker, CreateBrokerRequest, DeleteBrokerRequest, DescribeBrokerRequest, IssueReply, IssueRequest,
    ListBrokersRequest, PublicKeysRequest, RevokeRequest, ShowRevocationsRequest, UnrevokeRequest, UpdateBrokerRequest,
};
use serde_json::{Map, Value, json};

use super::Failure;
use super::connect::{Api, request_id};
use super::output::{self, Output};
use crate::auth::Lifetime;

/// What people are shown of one, in this order.
const FIELDS: &[&str] = &[
    "id",
    "name",
    "namespace",
    "description",
    "auth_type",
    "expiration",
    "preset",
    "endpoint",
    "created_on",
    "modified_on",
];

/// A broker and where it is.
#[derive(Clone, Debug, Args)]
pub(super) struct Which {
    /// Name or id of the broker.
    name: String,
    /// Name or id of its namespace.
    #[arg(long, visible_alias = "ns")]
    namespace: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum BrokerCommand {
    /// Create a broker, with a host name and signing keys of its own.
    Create {
        #[command(flatten)]
        which: Which,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
        /// Longest life of its credentials: 90s, 15m, 48h, 30d, 1w, or -1 for no end.
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        expiration: Option<Lifetime>,
        /// What its clients may do: everything, or what Cloudflare's beta allowed.
        #[arg(long, default_value = "standard", value_parser = ["standard", "beta"])]
        preset: String,
        /// A limit that is to be another than the preset's, `describe --output json` names them all; may be repeated.
        #[arg(long, value_name = "LIMIT=VALUE", value_parser = limit)]
        set: Vec<(String, String)>,
    },
    /// Change a broker; what is not named stays.
    Update {
        #[command(flatten)]
        which: Which,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
        /// Longest life of credentials issued from now on: 90s, 15m, 48h, 30d, 1w, or -1 for no end.
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        expiration: Option<Lifetime>,
        /// All its limits become this preset's.
        #[arg(long, value_parser = ["standard", "beta"])]
        preset: Option<String>,
        /// A limit to change; may be repeated.
        #[arg(long, value_name = "LIMIT=VALUE", value_parser = limit)]
        set: Vec<(String, String)>,
    },
    /// List the brokers of a namespace.
    List {
        /// Name or id.
        #[arg(long, visible_alias = "ns")]
        namespace: String,
    },
    /// Describe a broker.
    Describe {
        #[command(flatten)]
        which: Which,
    },
    /// Delete a broker; its clients are disconnected.
    Delete {
        #[command(flatten)]
        which: Which,
    },
    /// Issue credentials for clients. They are shown once and stored nowhere.
    Issue {
        #[command(flatten)]
        which: Which,
        /// How many, with generated client IDs; at most 100.
        #[arg(long, short, default_value_t = 1, conflicts_with = "client_id")]
        number: u32,
        /// A client ID to issue for; may be repeated.
        #[arg(long, value_name = "ID")]
        client_id: Vec<String>,
        /// How long they are good: 90s, 15m, 48h, 30d, 1w. The broker's own limit wins if it is shorter; -1: no
        /// end, whatever the broker's.
        #[arg(long, visible_alias = "exp", value_name = "DURATION", allow_hyphen_values = true)]
        expiration: Option<Lifetime>,
        /// A topic filter to allow publishing to; may be repeated. With this or --subscribe, nothing else is allowed;
        /// without, everything. `${clientid}` stands for the client ID.
        #[arg(long, value_name = "FILTER")]
        publish: Vec<String>,
        /// A topic filter to allow subscribing to; may be repeated.
        #[arg(long, value_name = "FILTER")]
        subscribe: Vec<String>,
        /// The kind of credential.
        #[arg(long = "type", default_value = "TOKEN", value_parser = ["TOKEN"], ignore_case = true)]
        kind: String,
    },
    /// Revoke credentials: no node admits them any more, and connections that used them end.
    Revoke {
        #[command(flatten)]
        which: Which,
        /// The credential's identifier, its claim `jti`; may be repeated.
        #[arg(long, required = true)]
        jti: Vec<String>,
    },
    /// Take revocations back.
    Unrevoke {
        #[command(flatten)]
        which: Which,
        /// The credential's identifier, its claim `jti`; may be repeated.
        #[arg(long, required = true)]
        jti: Vec<String>,
    },
    /// List revoked credentials.
    ShowRevocations {
        #[command(flatten)]
        which: Which,
    },
    /// Show the keys that credentials are verified with, as a JSON Web Key set.
    PublicKeys {
        #[command(flatten)]
        which: Which,
    },
}

pub(super) fn run(api: &Api, command: BrokerCommand) -> Result<(), Failure> {
    match command {
        BrokerCommand::Create { which: Which { name, namespace }, description, expiration, preset, set } => {
            let (expiration, limits, request_id) = (seconds(expiration), set.into_iter().collect(), request_id());
            let message = CreateBrokerRequest { namespace, name, description, expiration, preset, limits, request_id };
            let made = api.call(|via| {
                let message = message.clone();
                async move { BrokersClient::new(via).create(message).await }
            })?;
            output::object(api.output, FIELDS, &object(&made));
        }
        BrokerCommand::Update { which: Which { name, namespace }, description, expiration, preset, set } => {
            let (broker, expiration, preset) = (name, seconds(expiration), preset.unwrap_or_default());
            let (limits, request_id) = (set.into_iter().collect(), request_id());
            let message =
                UpdateBrokerRequest { namespace, broker, description, expiration, preset, limits, request_id };
            let changed = api.call(|via| {
                let message = message.clone();
                async move { BrokersClient::new(via).update(message).await }
            })?;
            output::object(api.output, FIELDS, &object(&changed));
        }
        BrokerCommand::List { namespace } => {
            let message = ListBrokersRequest { namespace };
            let reply = api.call(|via| {
                let message = message.clone();
                async move { BrokersClient::new(via).list(message).await }
            })?;
            let objects: Vec<Value> = reply.brokers.iter().map(object).collect();
            output::list(api.output, &["name", "id", "endpoint", "expiration", "description", "created_on"], &objects);
        }
        BrokerCommand::Describe { which: Which { name, namespace } } => {
            let message = DescribeBrokerRequest { namespace, broker: name };
            let found = api.call(|via| {
                let message = message.clone();
                async move { BrokersClient::new(via).describe(message).await }
            })?;
            output::object(api.output, FIELDS, &object(&found));
        }
        BrokerCommand::Delete { which: Which { name, namespace } } => {
            let message = DeleteBrokerRequest { namespace, broker: name.clone(), request_id: request_id() };
            api.call(|via| {
                let message = message.clone();
                async move { BrokersClient::new(via).delete(message).await }
            })?;
            output::done(api.output, &format!("broker {name} is deleted"));
        }
        credentials => return run_credentials(api, credentials),
    }
    Ok(())
}

fn run_credentials(api: &Api, command: BrokerCommand) -> Result<(), Failure> {
    match command {
        BrokerCommand::Issue {
            which: Which { name, namespace },
            number,
            client_id,
            expiration,
            publish,
            subscribe,
            kind: _,
        } => {
            let message = IssueRequest {
                namespace,
                broker: name,
                number: if client_id.is_empty() { number } else { 0 },
                client_ids: client_id,
                expiration: seconds(expiration),
                topic_acl: String::new(),
                publish,
                subscribe,
            };
            let issued = api.call(|via| {
                let message = message.clone();
                async move { BrokersClient::new(via).issue(message).await }
            })?;
            show_credentials(api.output, &issued);
        }
        BrokerCommand::Revoke { which: Which { name, namespace }, jti } => {
            let message = RevokeRequest { namespace, broker: name, jtis: jti.clone(), request_id: request_id() };
            api.call(|via| {
                let message = message.clone();
                async move { BrokersClient::new(via).revoke(message).await }
            })?;
            output::done(api.output, &format!("revoked: {}", jti.join(", ")));
        }
        BrokerCommand::Unrevoke { which: Which { name, namespace }, jti } => {
            let message = UnrevokeRequest { namespace, broker: name, jtis: jti.clone(), request_id: request_id() };
            api.call(|via| {
                let message = message.clone();
                async move { BrokersClient::new(via).unrevoke(message).await }
            })?;
            output::done(api.output, &format!("no longer revoked: {}", jti.join(", ")));
        }
        BrokerCommand::ShowRevocations { which: Which { name, namespace } } => {
            let message = ShowRevocationsRequest { namespace, broker: name };
            let reply = api.call(|via| {
                let message = message.clone();
                async move { BrokersClient::new(via).show_revocations(message).await }
            })?;
            let objects = reply.revocations.iter().map(|r| json!({"jti": r.jti, "revoked_on": r.revoked_on}));
            output::list(api.output, &["jti", "revoked_on"], &objects.collect::<Vec<_>>());
        }
        BrokerCommand::PublicKeys { which: Which { name, namespace } } => {
            let message = PublicKeysRequest { namespace, broker: name };
            let reply = api.call(|via| {
                let message = message.clone();
                async move { BrokersClient::new(via).public_keys(message).await }
            })?;
            let key = |k: &rookery_proto::admin::Jwk| json!({"use": k.r#use, "kty": k.kty, "kid": k.kid, "crv": k.crv, "alg": k.alg, "x": k.x});
            let keys: Vec<Value> = reply.keys.iter().map(key).collect();
            match api.output {
                Output::Json => output::json(&json!({ "keys": keys })),
                Output::Table => output::list(Output::Table, &["kid", "alg", "crv", "x"], &keys),
            }
        }
        _ => {}
    }
    Ok(())
}

/// A map from client ID to token in JSON, as scripts and the load tool take it; in order, with identifiers, for
/// people.
fn show_credentials(output: Output, issued: &IssueReply) {
    match output {
        Output::Json => {
            // Written by hand, because the order is the request's.
            let quoted = |text: &String| Value::String(text.clone()).to_string();
            let pairs = issued.credentials.iter().map(|c| format!("  {}: {}", quoted(&c.client_id), quoted(&c.token)));
            output::print(&format!("{{\n{}\n}}", pairs.collect::<Vec<_>>().join(",\n")));
        }
        Output::Table => {
            let object = |c: &rookery_proto::admin::Credential| {
                let fields = [("client_id", &c.client_id), ("jti", &c.jti), ("token", &c.token)];
                let mut map: Map<_, _> =
                    fields.into_iter().map(|(key, text)| (key.to_owned(), Value::from(text.as_str()))).collect();
                map.insert("expires_on".to_owned(), c.expires_on.clone().into());
                Value::Object(map)
            };
            let objects: Vec<Value> = issued.credentials.iter().map(object).collect();
            output::list(output, &["client_id", "jti", "expires_on", "token"], &objects);
        }
    }
}

/// As the API has it: -1 is never.
pub(super) fn seconds(lifetime: Option<Lifetime>) -> Option<i64> {
    lifetime.map(|lifetime| match lifetime {
        Lifetime::Never => -1,
        Lifetime::Seconds(seconds) => i64::try_from(seconds).unwrap_or(i64::MAX),
    })
}

fn object(broker: &Broker) -> Value {
    json!({
        "id": broker.id,
        "name": broker.name,
        "namespace": broker.namespace,
        "description": broker.description,
        "auth_type": broker.auth_type,
        "created_on": broker.created_on,
        "modified_on": broker.modified_on,
        "expiration": broker.expiration,
        "endpoint": broker.endpoint,
        "preset": broker.preset,
        "limits": broker.limits.iter().collect::<BTreeMap<_, _>>(),
    })
}

/// A limit and its value, as in `retain=off`.
fn limit(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a limit is set as in retain=off")?;
    Ok((key.to_owned(), value.to_owned()))
}
