//! The client libraries that are played with, and what each of them cannot do.

pub mod page;

use std::path::Path;

use tokio::process::Command;

use crate::harness::{script, tool};

pub const SCHEMES: [&str; 4] = ["tcp", "tls", "ws", "wss"];
pub const VERSIONS: [u8; 2] = [5, 3];
/// What every library is asked for. Each has several clients.
pub const TRANSCRIPTS: [&str; 7] = ["qos0", "qos1", "qos2", "will", "retained", "resume", "takeover"];

/// In which language a library's driver is written.
#[derive(Clone, Copy)]
pub enum Language {
    JavaScript,
    Python,
    Rust,
}

/// A library, behind a driver of tests/clients.
pub struct Library {
    /// Its name for the driver.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The version that scripts/test installs; none where the system decides.
    pub version: Option<&'static str>,
    pub language: Language,
    /// What only this one can do.
    pub extra: &'static [&'static str],
    /// Played only with `ROOKERY_ALL_CLIENTS`.
    pub costly: bool,
}

const fn library(name: &'static str, title: &'static str, version: &'static str, language: Language) -> Library {
    Library { name, title, version: Some(version), language, extra: &[], costly: false }
}

pub const LIBRARIES: &[Library] = &[
    library("mqttjs", "MQTT.js", "5.16.0", Language::JavaScript),
    library("u8mqtt", "u8-mqtt", "0.6.7", Language::JavaScript),
    library("paho", "paho-mqtt (Python)", "2.1.0", Language::Python),
    library("gmqtt", "gmqtt", "0.8.0", Language::Python),
    library("aiomqtt", "aiomqtt", "2.5.1", Language::Python),
    library("amqtt", "amqtt", "0.12.1", Language::Python),
    library("rumqttc", "rumqttc", "0.25.1", Language::Rust),
    Library { costly: true, ..library("paho-rust", "paho-mqtt (Rust)", "0.14.0", Language::Rust) },
    Library {
        version: None,
        extra: &["request"],
        ..library("mosquitto", "mosquitto_pub, _sub, _rr", "", Language::Python)
    },
];

/// What a library cannot do, and why; an empty list stands for all.
pub struct Cannot {
    library: &'static str,
    schemes: &'static [&'static str],
    versions: &'static [u8],
    transcripts: &'static [&'static str],
    pub why: &'static str,
}

const WEBSOCKETS: &[&str] = &["ws", "wss"];

const fn cannot(library: &'static str, schemes: &'static [&'static str], why: &'static str) -> Cannot {
    Cannot { library, schemes, versions: &[], transcripts: &[], why }
}

/// Their drivers give the same reasons.
const CANNOT: &[Cannot] = &[
    Cannot { transcripts: &["qos2"], ..cannot("u8mqtt", &[], "has QoS 0 and 1 only") },
    cannot("gmqtt", WEBSOCKETS, "speaks TCP and TLS only"),
    Cannot { versions: &[5], ..cannot("amqtt", &[], "speaks 3.1.1 only") },
    cannot("paho-rust", WEBSOCKETS, "mixes up the frames of all WebSockets of a process, and may leave one unread"),
    cannot("mosquitto", WEBSOCKETS, "speaks TCP and TLS only"),
];

impl Library {
    pub fn transcripts(&self) -> impl Iterator<Item = &'static str> {
        TRANSCRIPTS.iter().chain(self.extra).copied()
    }

    /// Why it cannot play that, if it cannot.
    pub fn cannot(&self, scheme: &str, version: u8, transcript: &str) -> Option<&'static Cannot> {
        CANNOT.iter().find(|cannot| {
            cannot.library == self.name
                && (cannot.schemes.is_empty() || cannot.schemes.contains(&scheme))
                && (cannot.versions.is_empty() || cannot.versions.contains(&version))
                && (cannot.transcripts.is_empty() || cannot.transcripts.contains(&transcript))
        })
    }

    /// Its driver, which reads plays and prints what became of them.
    pub fn driver(&self) -> Command {
        let mut command = match self.language {
            Language::JavaScript => {
                let mut command = Command::new("node");
                command.arg(script("javascript/driver.js")).env("NODE_PATH", tool("node/node_modules"));
                command
            }
            Language::Python => {
                let mut command = Command::new(tool("venv/bin/python"));
                command.arg("-B").arg(script("python/driver.py"));
                command
            }
            Language::Rust => Command::new(built("driver")),
        };
        command.arg(self.name);
        command
    }
}

/// A program of tests/clients/rust.
pub fn built(name: &str) -> std::path::PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/debug").join(name);
    assert!(path.exists(), "{} is missing: run scripts/test once, it builds it", path.display());
    path
}

/// Whether those that are costly are played as well.
pub fn all() -> bool {
    std::env::var_os("ROOKERY_ALL_CLIENTS").is_some()
}
