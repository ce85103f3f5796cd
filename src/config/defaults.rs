//! The table of settings: every key, its default, its bounds and its meaning, in one place.

use rookery_cluster::metadata::MAX_SHARDS;

use super::field::{Field, Kind, Section};

/// The sections, in the order of the reference page.
pub const SECTIONS: &[Section] = &[
    Section { name: "node", doc: "The node itself." },
    Section { name: "cluster", doc: "How the node meets the other nodes." },
    Section { name: "listeners", doc: "Where MQTT clients connect." },
    Section { name: "api", doc: "Where administrators and monitoring connect." },
    Section {
        name: "limits",
        doc: "Bounds that the size of the machine decides. (Those of a tenant belong to its broker.)",
    },
    Section { name: "log", doc: "The log, on standard error." },
];

/// The settings.
pub const FIELDS: &[Field] = &[
    Field {
        key: "node.name",
        kind: Kind::Text,
        default: "",
        doc: "What people call the node, in logs and in `rookery cluster members`. Need not be unique. \
              Empty: the machine's host name.",
    },
    Field {
        key: "node.data_dir",
        kind: Kind::Path,
        default: "rookery-data",
        doc: "The folder of the node's store, keys and certificates. Made by `rookery cluster init` or `join`; \
              one node at a time uses it. Put it on a disk whose fsync can be believed.",
    },
    Field {
        key: "node.domain",
        kind: Kind::Domain,
        default: "rookery.localhost",
        doc: "The domain of the brokers' host names, `broker.namespace.domain`; the same on all nodes. A TLS \
              server name or a Host header inside it selects the broker, any other name counts as absent. Names \
              under `localhost` reach this machine without DNS in most resolvers.",
    },
    Field {
        key: "node.workers",
        kind: Kind::Integer { min: 0, max: 1024, unit: "threads" },
        default: "0",
        doc: "Event loops that carry client connections. 0: as many as the machine has cores. Raft, TLS \
              handshakes and the APIs have threads of their own besides.",
    },
    Field {
        key: "node.region",
        kind: Kind::Text,
        default: "",
        doc: "Where the node is, coarsely, for placement. Any text; empty is a region too.",
    },
    Field {
        key: "node.zone",
        kind: Kind::Text,
        default: "",
        doc: "What fails together with this node inside its region: replicas are spread over zones. Any text.",
    },
    Field {
        key: "cluster.listen",
        kind: Kind::Address,
        default: "0.0.0.0:7946",
        doc: "Where other nodes connect: TCP for gRPC (mutual TLS) and UDP for failure detection, on the same port \
              number. Must be reachable from every other node.",
    },
    Field {
        key: "cluster.advertise",
        kind: Kind::Endpoint,
        default: "",
        doc: "The address that other nodes use to reach `cluster.listen`. Empty: `cluster.listen` itself, with a \
              wildcard address replaced by that of the interface of the default route.",
    },
    Field {
        key: "cluster.shards",
        kind: Kind::Integer { min: 1, max: MAX_SHARDS as u64, unit: "Raft groups" },
        default: "16",
        doc: "Session shards of a new cluster. Read by `rookery cluster init` alone and then fixed. More shards \
              spread the sessions over more nodes and cost heartbeats; 16 is good for up to about 16 nodes.",
    },
    Field {
        key: "listeners.mqtt",
        kind: Kind::Listeners,
        default: "off",
        doc: "MQTT over plain TCP. Tokens travel readable: for loopback and private networks. The customary port \
              is 1883. Here and below: `[::]` is every address of the machine, IPv4 too; of several addresses, the \
              first is what the node tells the others.",
    },
    Field {
        key: "listeners.mqtts",
        kind: Kind::Listeners,
        default: "0.0.0.0:8883",
        doc: "MQTT over TLS 1.2 or 1.3. A client that names protocols (ALPN) must name `mqtt`; one that names none is \
              welcome.",
    },
    Field {
        key: "listeners.ws",
        kind: Kind::Listeners,
        default: "off",
        doc: "MQTT over WebSocket without TLS, at the path `/mqtt` or `/`. As `listeners.mqtt`, or behind a \
              proxy that ends TLS. The customary port is 8083.",
    },
    Field {
        key: "listeners.wss",
        kind: Kind::Listeners,
        default: "0.0.0.0:8884",
        doc: "MQTT over WebSocket over TLS. Browsers reach port 443 most easily: `[\"0.0.0.0:8884\", \
              \"0.0.0.0:443\"]`. A client that names protocols (ALPN) must name `http/1.1`.",
    },
    Field {
        key: "listeners.tls_cert",
        kind: Kind::Path,
        default: "",
        doc: "PEM file with the certificate chain that clients are shown, the leaf first. Must cover \
              `*.NAMESPACE.domain` for each namespace in use. Empty: a certificate signed by the cluster's own \
              authority. Set together with `listeners.tls_key`. Both files are looked at every few seconds, and at \
              once on SIGHUP: changed ones are taken into use without a restart, open connections stay, and tickets \
              of earlier TLS sessions end. Ones that are no good are logged as an error, and the old ones stay.",
    },
    Field {
        key: "listeners.tls_key",
        kind: Kind::Path,
        default: "",
        doc: "PEM file with the private key of `listeners.tls_cert`.",
    },
    Field {
        key: "listeners.proxy",
        kind: Kind::Listeners,
        default: "off",
        doc: "Which of the addresses above are reached through a proxy that speaks the PROXY protocol, version 2: each \
              connection there must begin with its header, and the address in it is the client's in logs and limits. \
              Version 1 is refused. The connections of other addresses are taken as they are.",
    },
    Field {
        key: "listeners.proxy_from",
        kind: Kind::Networks,
        default: "",
        doc: "The networks that the proxies of `listeners.proxy` connect from; whoever else connects there is closed at \
              once, for the header can claim any address. Needed with it.",
    },
    Field {
        key: "api.grpc",
        kind: Kind::Address,
        default: "127.0.0.1:7947",
        doc: "The administration API (gRPC), used by the command line. Every call needs an API token.",
    },
    Field {
        key: "api.tls",
        kind: Kind::Choice(&["auto", "on", "off"]),
        default: "auto",
        doc: "Whether `api.grpc` uses TLS, with the certificate of the listeners. `auto`: unless it listens on \
              loopback.",
    },
    Field {
        key: "api.http",
        kind: Kind::Listener,
        default: "127.0.0.1:7948",
        doc: "HTTP for monitoring: `/metrics` (Prometheus), `/healthz` (the process lives), `/readyz` (it can serve \
              clients). Open to whoever reaches it.",
    },
    Field {
        key: "limits.connections",
        kind: Kind::Integer { min: 1, max: 10_000_000, unit: "connections" },
        default: "100000",
        doc: "Client connections of this node; more are closed at once and counted. Each needs a file descriptor: \
              raise the process's limit (`LimitNOFILE`) with it.",
    },
    Field {
        key: "limits.connections_per_address",
        kind: Kind::Integer { min: 1, max: 10_000_000, unit: "connections" },
        default: "20000",
        doc: "Of these, what one source address may have, so that it cannot take all; more are closed at once and \
              counted. IPv6 addresses count by their /64. Behind a proxy that speaks the PROXY protocol it is the \
              client's address that counts, behind any other one the proxy's: set it as `limits.connections` then.",
    },
    Field {
        key: "limits.buffer_mib",
        kind: Kind::Integer { min: 16, max: 1 << 24, unit: "MiB" },
        default: "2048",
        doc: "Messages that may wait on this node, for slow clients and for other nodes, of all brokers together. A \
              broker may use as much of it as it leaves to the others; what it publishes beyond that is dropped for \
              clients that have something waiting, and counted as `node_memory`.",
    },
    Field {
        key: "limits.sys_interval",
        kind: Kind::Integer { min: 0, max: 86_400, unit: "seconds" },
        default: "10",
        doc: "How often clients that may read `$SYS/...`, and subscribe to it, are told their broker's figures at this \
              node. 0: never, there is nothing below `$SYS` then.",
    },
    Field {
        key: "log.level",
        kind: Kind::Text,
        default: "info,openraft=warn",
        doc: "What is logged: `error`, `warn`, `info`, `debug`, `trace`, or per module as \
              `info,rookery_cluster::raft=debug`.",
    },
    Field {
        key: "log.format",
        kind: Kind::Choice(&["text", "json"]),
        default: "text",
        doc: "`text` for people, `json` for collectors (one object a line).",
    },
];
