//! The table: what each room of the tree may use.

/// Whether a room may touch the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Takes inputs, returns outputs: no socket, file, thread, lock, channel or clock.
    Pure,
    /// May touch the world, through what it is given.
    Driver,
}

/// One room.
pub struct Room {
    /// Its folder or file, without `.rs`; the longest that fits a file is its room.
    pub path: &'static str,
    /// Whether it is pure.
    pub kind: Kind,
    /// The other crates that it may name, beside [`ANYWHERE`].
    pub crates: &'static [&'static str],
    /// The other rooms that it may name.
    pub rooms: &'static [&'static str],
}

/// Crates that any room may name.
pub const ANYWHERE: &[&str] = &["bytes", "serde", "thiserror", "tracing"];

/// What no pure room names.
pub const IMPURE_PATHS: &[&str] = &[
    "crossbeam",
    "parking_lot",
    "rustix",
    "socket2",
    "std::collections::hash_map::RandomState",
    "std::env",
    "std::fs",
    "std::hash::RandomState",
    "std::net",
    "std::process",
    "std::sync::Condvar",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::mpsc",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
];

/// What of it is mere data.
pub const PLAIN_DATA: &[&str] = &["std::net::IpAddr", "std::net::Ipv", "std::net::SocketAddr"];

/// What no pure room says.
pub const IMPURE_WORDS: &[&str] =
    &[".await", "Instant::now", "SharedClock", "SharedConsensus", "SharedRng", "SystemTime::now", "async"];

/// The bound on a file's lines.
pub const MAX_LINES: usize = 450;

/// Files that may be longer, with the reason.
pub const LONG_FILES: &[(&str, &str)] = &[];

/// Two rooms that know each other, with the reason.
pub const CIRCLES: &[(&str, &str, &str)] = &[(
    "cluster/src/leases",
    "cluster/src/control",
    "the lease driver asks through the port that control declares; control's server answers with the lease's verdict",
)];

const CLOCK: &str = "cluster/src/clock";
const CONSENSUS: &str = "cluster/src/consensus";
const CONTROL: &str = "cluster/src/control";
const DISK: &str = "cluster/src/disk";
const HANDLE: &str = "cluster/src/handle";
const IDS: &str = "cluster/src/ids";
const LEASES: &str = "cluster/src/leases";
const LIMITS: &str = "cluster/src/limits";
const LOG: &str = "cluster/src/log";
const METADATA: &str = "cluster/src/metadata";
const NET: &str = "cluster/src/net";
const PKI: &str = "cluster/src/pki";
const PROTO: &str = "proto/src";
const RETAINED: &str = "cluster/src/retained";
const RETAINED_STORE: &str = "cluster/src/retained/store";
const RNG: &str = "cluster/src/rng";
const SESSIONS: &str = "cluster/src/sessions";
const TOPICS: &str = "cluster/src/topics";
const CODEC: &str = "src/mqtt/codec";

const fn pure(path: &'static str, crates: &'static [&'static str], rooms: &'static [&'static str]) -> Room {
    Room { path, kind: Kind::Pure, crates, rooms }
}

const fn driver(path: &'static str, crates: &'static [&'static str], rooms: &'static [&'static str]) -> Room {
    Room { path, kind: Kind::Driver, crates, rooms }
}

/// Every room of the tree, those at the bottom first.
pub const ROOMS: &[Room] = &[
    // proto: generated messages, no logic
    driver(PROTO, &["prost", "tonic", "tonic_prost"], &[]),
    // cluster: words that all rooms share
    pure("cluster/src/lib", &[], &[]),
    pure(IDS, &[], &[]),
    pure(LIMITS, &[], &[IDS]),
    driver(CONSENSUS, &["futures_util"], &[IDS]),
    pure(HANDLE, &[], &[CLOCK, IDS, RETAINED]),
    // cluster: the four traits of the world, each with its real implementation
    driver(CLOCK, &["rustix"], &[]),
    driver(RNG, &["ring"], &[]),
    driver(DISK, &["parking_lot", "rustix"], &[]),
    driver(
        NET,
        &["hyper_util", "parking_lot", "tokio", "tokio_rustls", "tokio_stream", "tonic", "tower"],
        &[CLOCK, CONSENSUS, IDS, LIMITS, PKI],
    ),
    driver(PKI, &["parking_lot", "rcgen", "ring", "rustls", "x509_parser"], &[CLOCK, IDS, RNG]),
    // cluster: the state machines and tables
    pure(TOPICS, &[], &[IDS, LIMITS]),
    pure("cluster/src/membership", &["foca", "postcard", "rand"], &[IDS, LIMITS]),
    pure(METADATA, &["imbl", "postcard"], &[CLOCK, CONSENSUS, IDS, LIMITS, TOPICS]),
    driver("cluster/src/metadata/handle", &["tokio"], &[CLOCK, CONSENSUS, IDS, LIMITS, METADATA, RNG]),
    pure(SESSIONS, &["imbl", "postcard"], &[CONSENSUS, HANDLE, IDS, LIMITS, RETAINED]),
    pure("cluster/src/interest", &["imbl"], &[CLOCK, HANDLE, IDS, LIMITS]),
    pure(RETAINED, &[], &[CLOCK, IDS, LIMITS]),
    pure("cluster/src/forward/outbox", &[], &[HANDLE, LIMITS]),
    pure("cluster/src/forward/inbox", &[], &["cluster/src/forward/outbox", LIMITS]),
    pure("cluster/src/leases/holder", &[], &[CLOCK, IDS, LIMITS]),
    pure("cluster/src/leases/table", &[], &[CLOCK, IDS, LIMITS]),
    pure("cluster/src/claims/pace", &[], &[CLOCK, IDS, LIMITS, SESSIONS]),
    pure("cluster/src/claims/registry", &[], &[CLOCK, CONTROL, HANDLE, IDS, SESSIONS]),
    pure("cluster/src/claims/wills", &[], &[IDS, SESSIONS]),
    pure("cluster/src/placement/plan", &[], &[IDS, LIMITS, METADATA]),
    // cluster: the drivers
    driver(LOG, &["crc32c", "parking_lot", "sled"], &[DISK, IDS, LIMITS, RNG]),
    driver("cluster/src/retained/store", &["crc32c", "parking_lot"], &[CLOCK, DISK, IDS, LIMITS, LOG, RETAINED, RNG]),
    driver("cluster/src/swim", &["ring", "tokio"], &[CLOCK, IDS, LIMITS, "cluster/src/membership", NET, RNG]),
    driver(
        "cluster/src/forward",
        &["futures_util", "parking_lot", "tokio", "tonic"],
        &[
            CLOCK,
            "cluster/src/forward/inbox",
            "cluster/src/forward/outbox",
            HANDLE,
            IDS,
            "cluster/src/interest",
            LIMITS,
            NET,
            PROTO,
            RETAINED,
            RETAINED_STORE,
        ],
    ),
    driver(
        CONTROL,
        &["futures_util", "postcard", "tokio", "tonic"],
        &[CLOCK, CONSENSUS, HANDLE, IDS, LEASES, LIMITS, METADATA, NET, PROTO, SESSIONS],
    ),
    driver(
        LEASES,
        &["futures_util", "parking_lot", "tokio"],
        &[CLOCK, CONSENSUS, CONTROL, IDS, LIMITS, "cluster/src/leases/holder", "cluster/src/leases/table"],
    ),
    driver(
        "cluster/src/claims",
        &["futures_util", "parking_lot", "tokio"],
        &[
            "cluster/src/claims/pace",
            "cluster/src/claims/registry",
            "cluster/src/claims/wills",
            CLOCK,
            CONSENSUS,
            CONTROL,
            HANDLE,
            IDS,
            LEASES,
            LIMITS,
            RETAINED,
            SESSIONS,
        ],
    ),
    driver(
        "cluster/src/placement",
        &["tokio"],
        &[CLOCK, CONSENSUS, IDS, LIMITS, METADATA, "cluster/src/placement/plan"],
    ),
    driver(
        "cluster/src/join",
        &["base64", "hyper_util", "parking_lot", "rustls", "serde_json", "tokio", "tokio_rustls", "tonic", "tower"],
        &[CLOCK, CONSENSUS, IDS, LIMITS, METADATA, NET, PKI, PROTO, RNG],
    ),
    // the only crate that names openraft
    driver(
        "cluster/raft/src",
        &[
            "crc32c",
            "futures_util",
            "openraft",
            "openraft_rt",
            "openraft_rt_tokio",
            "parking_lot",
            "postcard",
            "tokio",
            "tonic",
        ],
        &[CLOCK, CONSENSUS, DISK, IDS, LIMITS, LOG, NET, PROTO],
    ),
    // the broker, pure part
    pure("src/lib", &[], &[]),
    pure("src/mqtt", &[], &[]),
    pure(CODEC, &[], &[]),
    pure("src/mqtt/session", &["postcard"], &[CLOCK, IDS, LIMITS, TOPICS, CODEC]),
    pure("src/broker/core", &["slab"], &[CLOCK, HANDLE, IDS, LIMITS, RETAINED, TOPICS, CODEC, "src/mqtt/session"]),
    // the broker, drivers
    driver("src/config", &["clap", "toml", "tracing_subscriber"], &[LIMITS, METADATA]),
    driver(
        "src/broker",
        &["futures_util", "parking_lot", "tokio", "tokio_rustls", "tokio_tungstenite"],
        &[CLOCK, HANDLE, IDS, LIMITS, RETAINED, RETAINED_STORE, "src/broker/core", CODEC],
    ),
    driver(
        "src/listeners",
        &["futures_util", "parking_lot", "rustix", "rustls", "socket2", "tokio", "tokio_rustls", "tokio_tungstenite"],
        &[CLOCK, LIMITS, PKI, "src/broker", "src/broker/core", "src/config"],
    ),
    driver(
        "src/auth",
        &[
            "base64",
            "curve25519_dalek",
            "ed25519_dalek",
            "jsonwebtoken",
            "parking_lot",
            "ring",
            "serde_json",
            "signature",
            "ulid",
        ],
        &[CLOCK, IDS, LIMITS, METADATA, PKI, RNG, TOPICS],
    ),
    driver(
        "src/client",
        &["futures_util", "rustls", "tokio", "tokio_rustls", "tokio_tungstenite"],
        &[CLOCK, NET, CODEC],
    ),
    driver(
        "src/bench",
        &["clap", "hdrhistogram", "mio", "rustix", "serde_json", "tokio", "tonic"],
        &[CLOCK, PROTO, RNG, "src/client", CODEC],
    ),
    driver("src/telemetry", &["axum", "tracing_subscriber"], &["src/config"]),
    // the administration: one corridor, and the doors that name tonic
    driver(
        "src/api",
        &["parking_lot", "ring", "rustls", "time", "tokio"],
        &[CLOCK, CONSENSUS, IDS, "cluster/src/join", LIMITS, "cluster/src/membership", METADATA, PKI, RNG, "src/auth"],
    ),
    driver("src/api/grpc", &["tokio", "tonic", "tonic_reflection"], &[IDS, METADATA, PROTO, "src/api", "src/auth"]),
    driver(
        "src/api/serve",
        &["rustls", "tokio", "tokio_rustls", "tokio_stream", "tonic"],
        &[NET, PKI, "src/api", "src/api/grpc"],
    ),
    // the composition root: wires the drivers, so it knows them all
    driver(
        "src/node",
        &["axum", "parking_lot", "rustls", "serde_json", "tokio", "tonic"],
        &[
            "cluster/raft/src",
            "cluster/src/claims",
            CLOCK,
            CONSENSUS,
            CONTROL,
            DISK,
            "cluster/src/forward",
            HANDLE,
            IDS,
            "cluster/src/join",
            LEASES,
            LIMITS,
            LOG,
            "cluster/src/membership",
            METADATA,
            NET,
            PKI,
            "cluster/src/placement",
            RETAINED,
            RETAINED_STORE,
            RNG,
            SESSIONS,
            "cluster/src/swim",
            CODEC,
            "src/api",
            "src/api/serve",
            "src/auth",
            "src/broker",
            "src/broker/core",
            "src/config",
            "src/listeners",
            "src/telemetry",
        ],
    ),
    // what is outside of a node: clients of it
    driver(
        "src/dev",
        &["clap", "rustix", "serde_json", "tokio", "toml", "tonic"],
        &[CLOCK, "cluster/src/join", PKI, RNG, PROTO, "src/api", "src/config", "src/node"],
    ),
    driver(
        "src/cli",
        &["base64", "clap", "clap_complete", "rustix", "serde_json", "tokio", "tonic"],
        &[
            CLOCK,
            PKI,
            PROTO,
            RNG,
            CODEC,
            "src/api",
            "src/auth",
            "src/bench",
            "src/client",
            "src/config",
            "src/dev",
            "src/node",
            "src/telemetry",
        ],
    ),
    driver("src/main", &[], &["src/cli"]),
    // real clusters under fault
    driver(
        "jepsen/src",
        &["clap", "parking_lot", "rustix", "serde_json", "tokio", "tonic"],
        &[CLOCK, PROTO, RNG, "src/client", CODEC],
    ),
];
