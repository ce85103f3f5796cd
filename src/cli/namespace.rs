//! `rookery namespace`.

use clap::Subcommand;
use rookery_proto::admin::namespaces_client::NamespacesClient;
use rookery_proto::admin::{
    CreateNamespaceRequest, DeleteNamespaceRequest, DescribeNamespaceRequest, ListNamespacesRequest, Namespace,
};
use serde_json::{Value, json};

use super::Failure;
use super::connect::{Api, request_id};
use super::output;

/// What people are shown of one, in this order.
const FIELDS: &[&str] = &["id", "name", "description", "created_on", "modified_on"];

#[derive(Debug, Subcommand)]
pub(super) enum NamespaceCommand {
    /// Create a namespace: a collection of brokers, and part of their host names.
    Create {
        /// Letters, digits and hyphens, from a letter (RFC 1035); unique in the cluster.
        name: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
        /// How many brokers it may hold: 100, or 3 as in the beta.
        #[arg(long, default_value = "standard", value_parser = ["standard", "beta"])]
        preset: String,
    },
    /// List the namespaces.
    List,
    /// Describe a namespace.
    Describe {
        /// Name or id.
        name: String,
    },
    /// Delete a namespace that holds no brokers.
    Delete {
        /// Name or id.
        name: String,
    },
}

pub(super) fn run(api: &Api, command: NamespaceCommand) -> Result<(), Failure> {
    match command {
        NamespaceCommand::Create { name, description, preset } => {
            let (request_id, account) = (request_id(), String::new());
            let message = CreateNamespaceRequest { name, description, account, preset, request_id };
            let made = api.call(|via| {
                let message = message.clone();
                async move { NamespacesClient::new(via).create(message).await }
            })?;
            output::object(api.output, FIELDS, &object(&made));
        }
        NamespaceCommand::List => {
            let message = ListNamespacesRequest::default();
            let reply = api.call(|via| {
                let message = message.clone();
                async move { NamespacesClient::new(via).list(message).await }
            })?;
            let objects: Vec<Value> = reply.namespaces.iter().map(object).collect();
            output::list(api.output, &["name", "id", "description", "created_on"], &objects);
        }
        NamespaceCommand::Describe { name } => {
            let message = DescribeNamespaceRequest { namespace: name };
            let found = api.call(|via| {
                let message = message.clone();
                async move { NamespacesClient::new(via).describe(message).await }
            })?;
            output::object(api.output, FIELDS, &object(&found));
        }
        NamespaceCommand::Delete { name } => {
            let message = DeleteNamespaceRequest { namespace: name.clone(), request_id: request_id() };
            api.call(|via| {
                let message = message.clone();
                async move { NamespacesClient::new(via).delete(message).await }
            })?;
            output::done(api.output, &format!("namespace {name} is deleted"));
        }
    }
    Ok(())
}

fn object(namespace: &Namespace) -> Value {
    json!({
        "id": namespace.id,
        "name": namespace.name,
        "description": namespace.description,
        "created_on": namespace.created_on,
        "modified_on": namespace.modified_on,
    })
}
