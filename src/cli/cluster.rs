//! `rookery cluster`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rookery_proto::admin::cluster_client::ClusterClient;
use rookery_proto::admin::{
    CreateJoinTokenRequest, Group, Member, MembersRequest, NodeLease, RemoveNodeRequest, StatusRequest,
};
use serde_json::{Value, json};

use super::broker::seconds;
use super::connect::{Api, ApiOptions, request_id};
use super::output::{self, Output};
use super::{Failure, serve};
use crate::api::rfc3339;
use crate::auth::Lifetime;
use crate::config::Flags;

/// The settings of the node that is set up.
#[derive(Debug, Args)]
pub(super) struct NodeSettings {
    /// The node's settings, a TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Flags,
}

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Found a cluster, of which this node is the first. Prints an API token, kept nowhere else, and a join token.
    Init(NodeSettings),
    /// Join the cluster of another node.
    Join {
        /// The `cluster.listen` of a node of that cluster.
        #[arg(value_name = "HOST:PORT")]
        at: String,
        /// The join token, from `init` or `join-token`.
        #[arg(long, env = "ROOKERY_JOIN_TOKEN", hide_env_values = true)]
        token: String,
        #[command(flatten)]
        node: NodeSettings,
    },
    /// Make another join token.
    JoinToken {
        /// How long it is good, at most 7d.
        #[arg(long, value_name = "DURATION", default_value = "1h")]
        expiration: Lifetime,
        /// How many nodes it admits.
        #[arg(long, default_value_t = 1)]
        uses: u32,
    },
    /// Remove a node: its groups go to others, and no node lets it in any more.
    Remove {
        /// Its name or number.
        node: String,
    },
    /// List the nodes.
    Members,
    /// Show whose lease is live and who leads what.
    Status,
}

pub(super) fn run(options: &ApiOptions, command: ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Init(node) => init(options.output, &node),
        ClusterCommand::Join { at, token, node } => {
            let id = serve::join(node.config.as_deref(), &node.settings, &at, &token)?;
            output::done(options.output, &format!("joined as node {id}; start it with `rookery serve`"));
            Ok(())
        }
        ClusterCommand::JoinToken { expiration, uses } => {
            let expiration = seconds(Some(expiration));
            let message = CreateJoinTokenRequest { expiration, uses, request_id: request_id() };
            let reply = Api::find(options)?.call(|via| {
                let message = message.clone();
                async move { ClusterClient::new(via).create_join_token(message).await }
            })?;
            match options.output {
                Output::Table => output::print(&reply.token),
                Output::Json => output::json(&json!({
                    "join_token": reply.token, "expires_on": reply.expires_on, "ca_pin": reply.ca_pin,
                })),
            }
            Ok(())
        }
        ClusterCommand::Remove { node } => {
            let message = RemoveNodeRequest { node: node.clone(), request_id: request_id() };
            Api::find(options)?.call(|via| {
                let message = message.clone();
                async move { ClusterClient::new(via).remove_node(message).await }
            })?;
            output::done(options.output, &format!("node {node} was removed"));
            Ok(())
        }
        ClusterCommand::Members => {
            let reply = Api::find(options)?
                .call(|via| async move { ClusterClient::new(via).members(MembersRequest::default()).await })?;
            let objects: Vec<Value> = reply.members.iter().map(member).collect();
            let columns = ["id", "name", "state", "role", "leased", "leaving", "address", "region", "zone", "version"];
            output::list(options.output, &columns, &objects);
            Ok(())
        }
        ClusterCommand::Status => status(options),
    }
}

fn init(output: Output, node: &NodeSettings) -> Result<(), Failure> {
    let founded = serve::init(node.config.as_deref(), &node.settings)?;
    let expires = rfc3339(founded.join_token_expires);
    match output {
        Output::Json => output::json(&json!({
            "api_token": founded.api_token, "join_token": founded.join_token, "join_token_expires_on": expires,
        })),
        Output::Table => {
            output::print(&format!("API token (keep it, it is stored nowhere):\n  {}", founded.api_token));
            output::print(&format!("Join token, until {expires}:\n  {}", founded.join_token));
            output::print("Now start this node with `rookery serve`, then, on the others:");
            output::print("  rookery cluster join THIS_HOST:7946 --token JOIN_TOKEN && rookery serve");
        }
    }
    Ok(())
}

fn status(options: &ApiOptions) -> Result<(), Failure> {
    let reply = Api::find(options)?
        .call(|via| async move { ClusterClient::new(via).status(StatusRequest::default()).await })?;
    let groups: Vec<Value> = reply.groups.iter().map(group).collect();
    let leases: Vec<Value> = reply.leases.iter().map(lease).collect();
    match options.output {
        Output::Json => output::json(&json!({
            "node": reply.node, "version": reply.version, "ready": reply.ready,
            "not_ready_because": reply.not_ready_because, "settled": reply.settled,
            "not_settled_because": reply.not_settled_because, "leases": leases, "groups": groups,
        })),
        Output::Table => {
            let ready =
                if reply.ready { "ready".to_owned() } else { format!("not ready: {}", reply.not_ready_because) };
            output::print(&format!("node {} (rookery {}) is {ready}", reply.node, reply.version));
            if !reply.settled {
                output::print(&format!("not settled: {}", reply.not_settled_because));
            }
            output::list(Output::Table, &["node", "name", "incarnation", "lease", "since"], &leases);
            output::list(
                Output::Table,
                &["group", "leader", "term", "applied", "voters", "learners", "stopped"],
                &groups,
            );
        }
    }
    Ok(())
}

fn group(group: &Group) -> Value {
    json!({
        "group": group.id,
        "leader": (group.leader != 0).then_some(group.leader),
        "term": group.term,
        "applied": group.applied,
        "voters": group.voters,
        "learners": group.learners,
        "stopped": group.stopped,
    })
}

fn lease(lease: &NodeLease) -> Value {
    json!({
        "node": lease.node,
        "name": lease.name,
        "incarnation": lease.incarnation,
        "lease": lease.state,
        "since": lease.since,
    })
}

fn member(member: &Member) -> Value {
    json!({
        "id": member.id,
        "name": member.name,
        "incarnation": member.incarnation,
        "address": member.address,
        "state": member.state,
        "role": member.role,
        "leased": member.leased,
        "leaving": member.leaving,
        "region": member.region,
        "zone": member.zone,
        "version": member.version,
    })
}
