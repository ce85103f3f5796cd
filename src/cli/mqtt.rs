//! `rookery pub` and `rookery sub`.

use std::io::{BufRead as _, Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::json;

use super::Failure;
use super::connect::dev_info;
use super::output::Output;
use super::serve::stop_signal;
use crate::auth::Lifetime;
use crate::client::{Client, ClientError, Event, Options, ServerUrl, Trust};
use crate::dev::DevInfo;
use crate::mqtt::codec::{Publish, QoS, Version};

/// Which server, as whom.
#[derive(Debug, Args)]
struct Connection {
    /// The broker: mqtts://HOST[:PORT], mqtt://, ws:// or wss://. Default: a node of `rookery dev`.
    #[arg(long)]
    url: Option<String>,
    /// Which node of `rookery dev`, where --url is not given.
    #[arg(long, value_name = "NUMBER")]
    node: Option<u64>,
    /// Dial this address; the URL then only names the server.
    #[arg(long, value_name = "HOST:PORT")]
    connect_to: Option<String>,
    /// PEM file of the certificate authority to trust, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Client ID; empty: the one of the token.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The client's token, which is sent as password.
    #[arg(long, env = "ROOKERY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file with the client's token.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// User name.
    #[arg(long)]
    user: Option<String>,
    /// Protocol version.
    #[arg(long, default_value = "5", value_parser = ["3", "5"])]
    mqtt: String,
    /// Quality of service.
    #[arg(long, short, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Seconds between signs of life; 0: none.
    #[arg(long, default_value_t = 60)]
    keep_alive: u16,
    /// The folder of `rookery dev`.
    #[arg(long, default_value = "rookery-data", value_name = "DIR")]
    dev_dir: PathBuf,
}

/// Publish a message.
#[derive(Debug, Args)]
pub(super) struct PubCommand {
    #[command(flatten)]
    connection: Connection,
    /// The topic.
    topic: String,
    /// The message; without it, standard input is.
    message: Option<String>,
    /// Publish each line of standard input.
    #[arg(long, conflicts_with = "message")]
    lines: bool,
    /// Ask the broker to retain the message.
    #[arg(long)]
    retain: bool,
}

/// Subscribe, and print what arrives.
#[derive(Debug, Args)]
pub(super) struct SubCommand {
    #[command(flatten)]
    connection: Connection,
    /// Topic filters, such as `a/+/c` or `a/#`.
    #[arg(required = true)]
    filters: Vec<String>,
    /// End after this many messages.
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// End after this long, such as 30s; with --count that is a failure.
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Lifetime>,
    /// `topic payload` lines, or one JSON object a line.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) fn publish(command: &PubCommand) -> Result<(), Failure> {
    let options = command.connection.options(Role::Publisher)?;
    let qos = command.connection.qos();
    run(async {
        let (mut client, _) = Client::connect(&options).await.map_err(|e| failure(e, &options))?;
        for message in command.messages()? {
            let published = client.publish(&command.topic, message, qos, command.retain).await;
            published.map_err(|e| failure(e, &options))?;
        }
        client.disconnect().await.map_err(|e| failure(e, &options))
    })
}

pub(super) fn subscribe(command: &SubCommand) -> Result<(), Failure> {
    let options = command.connection.options(Role::Subscriber)?;
    let qos = command.connection.qos();
    let limit = match command.timeout {
        Some(Lifetime::Seconds(seconds)) => Duration::from_secs(seconds),
        Some(Lifetime::Never) | None => Duration::MAX,
    };
    run(async {
        let stop = stop_signal()?;
        let (mut client, _) = Client::connect(&options).await.map_err(|e| failure(e, &options))?;
        let filters: Vec<_> = command.filters.iter().map(|filter| (filter.as_str(), qos)).collect();
        client.subscribe(&filters).await.map_err(|e| failure(e, &options))?;
        // Said on standard error, so that a script can wait for it while standard output holds messages alone.
        eprintln!("subscribed as {} at {}", client.client_id(), options.url);
        let ended = tokio::select! {
            ended = receive(&mut client, command) => Some(ended),
            () = stop => None,
            () = tokio::time::sleep(limit) => match command.count {
                Some(count) => return Err(Failure::refused(format!("{count} messages did not come in time"))),
                None => None,
            },
        };
        if let Some(Err(error)) = ended {
            return Err(failure(error, &options));
        }
        client.disconnect().await.map_err(|e| failure(e, &options))
    })
}

async fn receive(client: &mut Client, command: &SubCommand) -> Result<(), ClientError> {
    let mut left = command.count;
    while left != Some(0) {
        if let Event::Message(message) = client.next().await? {
            // A reader that went away ends the subscription.
            if show(command.output, &message).is_err() {
                return Ok(());
            }
            left = left.map(|left| left - 1);
        }
    }
    // The last acknowledgement is still to be written.
    client.flush().await
}

fn show(output: Output, message: &Publish) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Table => {
            write!(out, "{} ", message.topic)?;
            out.write_all(&message.payload)?;
            writeln!(out)?;
        }
        Output::Json => {
            let mut object = json!({"topic": message.topic, "qos": message.qos as u8, "retain": message.retain});
            match std::str::from_utf8(&message.payload) {
                Ok(text) => object["payload"] = text.into(),
                Err(_) => object["payload_base64"] = STANDARD.encode(&message.payload).into(),
            }
            writeln!(out, "{object}")?;
        }
    }
    out.flush()
}

fn run(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::refused)?;
    runtime.block_on(work)
}

fn failure(error: ClientError, options: &Options) -> Failure {
    match &error {
        ClientError::Url { .. } | ClientError::Trust { .. } | ClientError::Encode(_) => Failure::usage(error),
        ClientError::Connect { .. } | ClientError::Timeout { .. } => {
            Failure::unreachable(error).hint("is the broker there, and is this its port?")
        }
        ClientError::Tls { .. } if options.trust == Trust::System => {
            Failure::refused(error).hint("if the cluster signs its own certificates, name its authority with --ca")
        }
        ClientError::Refused { .. } if options.password.is_none() => {
            Failure::refused(error).hint("give the client's token with --token-file")
        }
        _ => Failure::refused(error),
    }
}

/// Which of the two credentials of `rookery dev` is taken: both commands may run at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Subscriber,
    Publisher,
}

impl Connection {
    fn qos(&self) -> QoS {
        QoS::from_u8(self.qos).unwrap_or_default()
    }

    fn options(&self, role: Role) -> Result<Options, Failure> {
        let dev = if self.url.is_none() { dev_info(&self.dev_dir) } else { None };
        let url = match (&self.url, &dev) {
            (Some(url), _) => url.clone(),
            (None, Some(dev)) => self.dev_url(dev)?,
            (None, None) => {
                return Err(Failure::usage("no broker is named, and `rookery dev` was not started here")
                    .hint("name one with --url mqtts://HOST:PORT"));
            }
        };
        let mut options = Options::new(url.parse::<ServerUrl>().map_err(Failure::usage)?);
        options.dial = self.connect_to.clone();
        options.trust = match (&self.ca, &dev) {
            (Some(file), _) => Trust::CaFile(file.clone()),
            (None, Some(dev)) => Trust::CaFile(dev.ca.clone()),
            (None, None) => Trust::System,
        };
        options.version = if self.mqtt == "5" { Version::V5 } else { Version::V311 };
        options.keep_alive = Duration::from_secs(self.keep_alive.into());
        self.identify(&mut options, dev.as_ref(), role)?;
        Ok(options)
    }

    fn dev_url(&self, dev: &DevInfo) -> Result<String, Failure> {
        let node = match self.node {
            Some(id) => dev.nodes.iter().find(|node| node.id == id),
            None => dev.nodes.first(),
        };
        let ids = || dev.nodes.iter().map(|node| node.id.to_string()).collect::<Vec<_>>().join(", ");
        let node = node.ok_or_else(|| Failure::usage(format!("`rookery dev` runs the nodes {}", ids())))?;
        Ok(format!("mqtts://{}", node.mqtts))
    }

    fn identify(&self, options: &mut Options, dev: Option<&DevInfo>, role: Role) -> Result<(), Failure> {
        let token = match &self.token_file {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                Some(text.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?.trim().to_owned())
            }
            None => self.token.clone(),
        };
        let wanted = |id: &&String| self.client_id.as_ref().is_none_or(|given| given == *id);
        let known = dev.filter(|_| token.is_none()).and_then(|dev| {
            let mut ids = dev.credentials.keys().filter(wanted);
            let id = if role == Role::Subscriber { ids.next() } else { ids.next_back() }?;
            Some((id.clone(), dev.credentials[id].clone()))
        });
        (options.client_id, options.password) = match known {
            Some((id, token)) => (id, Some(token)),
            None => (self.client_id.clone().unwrap_or_default(), token),
        };
        // 3.1.1 has no password without a user name.
        let name_needed = options.password.is_some() && options.version == Version::V311;
        options.user_name = self.user.clone().or_else(|| name_needed.then(|| options.client_id.clone()));
        Ok(())
    }
}

impl PubCommand {
    fn messages(&self) -> Result<Box<dyn Iterator<Item = Vec<u8>>>, Failure> {
        if self.lines {
            let lines = std::io::stdin().lock().split(b'\n');
            return Ok(Box::new(lines.map_while(Result::ok)));
        }
        let message = match &self.message {
            Some(message) => message.clone().into_bytes(),
            None => {
                let mut message = Vec::new();
                std::io::stdin().lock().read_to_end(&mut message).map_err(Failure::refused)?;
                message
            }
        };
        Ok(Box::new(std::iter::once(message)))
    }
}
