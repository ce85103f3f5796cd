//! Every bound of the system: its name, its reason, and its relation to the others, checked when compiling.
//! (MQTT's per-broker limits are tenants' settings and live in `metadata`.)

use std::time::Duration;

// ---- sizes --------------------------------------------------------------------------------------------

/// Largest MQTT packet that any broker may allow, bytes. A tenant's own limit is at most this.
pub const MAX_PACKET_BYTES: usize = 1 << 20;
/// A batch of publishes to a peer or a worker is sent once it holds this much, bytes.
pub const FORWARD_BATCH_BYTES: usize = MAX_PACKET_BYTES + (256 << 10);
/// Unacknowledged bytes on one data stream (one worker to one peer), reserved by the receiver (R10).
pub const FORWARD_WINDOW_BYTES: usize = 4 << 20;
/// What may wait in a worker for credit towards one peer or sibling, bytes, of all brokers together. A broker may use as
/// much of it as it leaves to the others, so one alone fills a window, and a quantum in any case (R19).
pub const FORWARD_WAITING_BYTES: usize = 2 * FORWARD_WINDOW_BYTES;
/// What one broker may put into a batch before the next one has its turn, bytes (R19).
pub const FORWARD_QUANTUM_BYTES: usize = 64 << 10;
/// A worker tells the node's accountant when what it keeps for a broker has changed by this much, bytes. What it has not
/// told is at most that, for each broker, and what one turn of its loop brings (R19).
pub const ACCOUNT_STEP_BYTES: usize = 1 << 20;
/// What a peer may say that it wants in one message, in parts, bytes: its filters, each with what it costs besides.
pub const INTEREST_MESSAGE_BYTES: usize = 1 << 30;
/// Parts of such a message. Each but the last holds this part of the bytes at least.
pub const INTEREST_MESSAGE_PARTS: usize = 4096;
/// Largest gRPC message between nodes, bytes.
pub const MAX_GRPC_MESSAGE_BYTES: usize = 8 << 20;
/// Largest command proposed to a Raft group, bytes. Larger ones are refused before they are proposed.
pub const MAX_COMMAND_BYTES: usize = 48 << 10;
/// Largest will, bytes as it is published: it travels in one command, with the rest of its claim.
pub const MAX_WILL_BYTES: usize = 40 << 10;
/// Largest session that a node takes over from another, bytes: its queue and what is in flight.
pub const MAX_MOVED_SESSION_BYTES: usize = 256 << 20;
/// Largest Raft entry: a batch of commands. Below sled's blob limit (values from about 128 KiB up go to files
/// that sled never syncs), with room for the entry's header.
pub const MAX_ENTRY_BYTES: usize = 60 << 10;
/// Commands in one Raft entry.
pub const MAX_ENTRY_COMMANDS: usize = 512;
/// Of commands that are proposed together, those before the last one have at most this many bytes.
pub const PROPOSE_TOGETHER_BYTES: usize = 8 << 10;
/// Proposals waiting at one group's batcher; more are refused as unavailable.
pub const PROPOSAL_QUEUE: usize = 4096;

const _: () = assert!(MAX_PACKET_BYTES < FORWARD_BATCH_BYTES);
const _: () = assert!(FORWARD_BATCH_BYTES < FORWARD_WINDOW_BYTES);
// A chunk of one broker, closed once it holds a quantum, fits into a batch whatever its last packet.
const _: () = assert!(FORWARD_QUANTUM_BYTES + MAX_PACKET_BYTES < FORWARD_BATCH_BYTES);
const _: () = assert!(FORWARD_WINDOW_BYTES < MAX_GRPC_MESSAGE_BYTES);
const _: () = assert!(PROPOSE_TOGETHER_BYTES + MAX_COMMAND_BYTES < MAX_ENTRY_BYTES);
// A claim's other fields: a client ID of at most 1,024 bytes, and numbers.
const _: () = assert!(MAX_WILL_BYTES + 4096 < MAX_COMMAND_BYTES);
const _: () = assert!(MAX_ENTRY_BYTES < 64 << 10);

// ---- time ---------------------------------------------------------------------------------------------

/// Heartbeats of the metadata group.
pub const META_HEARTBEAT: Duration = Duration::from_millis(100);
/// Election timeout of the metadata group, low end.
pub const META_ELECTION_MIN: Duration = Duration::from_millis(400);
/// Election timeout of the metadata group, high end.
pub const META_ELECTION_MAX: Duration = Duration::from_millis(800);
/// Heartbeats of the session shards; those of all groups to one peer travel in one message.
pub const SHARD_HEARTBEAT: Duration = Duration::from_millis(250);
/// Election timeout of the session shards, low end.
pub const SHARD_ELECTION_MIN: Duration = Duration::from_millis(1000);
/// Election timeout of the session shards, high end.
pub const SHARD_ELECTION_MAX: Duration = Duration::from_millis(2000);
/// How long a node may serve after it sent the lease request that was answered (R1).
pub const LEASE: Duration = Duration::from_millis(4000);
/// A node asks for its next lease this long after the last request.
pub const LEASE_RENEW_EVERY: Duration = Duration::from_millis(1000);
/// How long such a request waits for its answer: one that comes later would hardly lengthen the lease.
pub const LEASE_ANSWER: Duration = Duration::from_millis(2500);
/// Requests of one node that wait at one time, each sent without waiting for the one before.
pub const LEASE_ASKS: usize = 3;
/// What two nodes' clocks may drift apart over one lease. The holder stops this much early, and the leader
/// waits this much longer (R2).
pub const LEASE_DRIFT_MARGIN: Duration = Duration::from_millis(250);
/// How long a Release may wait for DISCONNECT 0x8E to be flushed (R4).
pub const RELEASE_FLUSH: Duration = Duration::from_millis(200);
/// What must be revoked, or was granted and not yet confirmed, is sent again this often (R4).
pub const CLAIM_RESEND: Duration = Duration::from_millis(250);
/// A CONNECT waits this long for its claim, then gets CONNACK 0x88.
pub const CLAIM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a session may take on its way from the node that keeps it. Its CONNECT waits meanwhile.
pub const SESSION_FETCH_TIMEOUT: Duration = Duration::from_secs(8);
/// How much of it may go by until everybody has handed over what they had for that node (R14).
pub const SESSION_FENCE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a SUBACK waits for the live peers before the filter gets 0x83 (R11).
pub const SUBACK_BARRIER: Duration = Duration::from_secs(5);
/// How long a publish may stay unaccepted by a live peer: then R9 applies.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// A proposal that was forwarded or proposed waits this long for its outcome.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// From accept to a complete CONNECT (seed, "Connect Interval").
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// SWIM probe period.
pub const SWIM_PROBE: Duration = Duration::from_millis(1000);

const fn ms(d: Duration) -> u128 {
    d.as_millis()
}
const _: () = assert!(ms(META_HEARTBEAT) * 3 < ms(META_ELECTION_MIN));
const _: () = assert!(ms(SHARD_HEARTBEAT) * 3 < ms(SHARD_ELECTION_MIN));
const _: () = assert!(ms(LEASE_RENEW_EVERY) * 3 < ms(LEASE) - ms(LEASE_DRIFT_MARGIN));
const _: () = assert!(ms(LEASE_ANSWER) + ms(LEASE_RENEW_EVERY) < ms(LEASE) - ms(LEASE_DRIFT_MARGIN));
const _: () = assert!(ms(LEASE_ANSWER) <= ms(LEASE_RENEW_EVERY) * LEASE_ASKS as u128);
// A metadata election (lease of the old leader plus a random timeout) must fit into a node's lease, or every
// failover would close every client.
const _: () = assert!(2 * ms(META_ELECTION_MAX) + ms(LEASE_RENEW_EVERY) < ms(LEASE));
const _: () = assert!(ms(SESSION_FETCH_TIMEOUT) < ms(CLAIM_TIMEOUT));
const _: () = assert!(2 * ms(SESSION_FENCE_TIMEOUT) < ms(SESSION_FETCH_TIMEOUT));
const _: () = assert!(ms(RELEASE_FLUSH) < ms(CLAIM_RESEND));
const _: () = assert!(ms(LEASE) + 2 * ms(LEASE_DRIFT_MARGIN) < ms(CLAIM_TIMEOUT));

// ---- counts -------------------------------------------------------------------------------------------

/// Hash slots of a placement (R6).
pub const SLOTS: u16 = 4096;
/// Session shards of a new cluster.
pub const DEFAULT_SHARDS: u32 = 16;
/// Replicas of a shard.
pub const SHARD_REPLICAS: usize = 3;
/// Most voters of the metadata group.
pub const MAX_VOTERS: usize = 7;
/// Messages waiting in one worker's mailbox; senders never wait for room (R10), see `broker::worker`.
pub const WORKER_MAILBOX: usize = 8192;
/// Outcomes of request IDs that a state machine remembers, evicted by log order (R17).
pub const REQUEST_MEMORY: usize = 65_536;
/// Credentials issued by one call (seed, "Generate credentials").
pub const MAX_CREDENTIALS_PER_CALL: usize = 100;
/// Sessions of one broker that outlive their connections, whatever its own limit: the shards keep them in memory. More
/// are refused (CONNACK 0x97).
pub const SESSIONS: u32 = 1_000_000;
/// Bytes of the filters that these are subscribed to, whatever the broker's own limit; more are refused (SUBACK 0x97).
pub const SESSION_FILTER_BYTES: u64 = 1 << 30;
/// Revoked credentials of one broker (seed, "Limits").
pub const MAX_REVOCATIONS: usize = 10_000;

// ---- retained messages (R15) --------------------------------------------------------------------------

/// Topics of one broker that may have a retained message, whatever its own limit; more are refused (0x97). As many
/// tombstones are kept beside them.
pub const RETAINED_MESSAGES: usize = 200_000;
/// Bytes of one broker's retained messages and their topics, whatever its own limit; more are refused (0x97).
pub const RETAINED_BYTES: usize = 256 << 20;
/// Bytes of all brokers' retained messages: every node keeps them in memory.
pub const RETAINED_NODE_BYTES: usize = 2 << 30;
/// A record of a peer whose clock is further ahead than this is refused (R15).
pub const RETAINED_CLOCK_AHEAD: Duration = Duration::from_millis(500);
/// No tombstone goes sooner: by then nothing older of its topic is on its way, as whoever sent it was answered or is
/// not live any more.
pub const TOMBSTONE_LEAST: Duration = Duration::from_secs(60);
/// No tombstone is kept longer: a node that was away for longer copies afresh.
pub const TOMBSTONE_MOST: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often a node compares its retained messages with each live peer's.
pub const RETAINED_COMPARE_EVERY: Duration = Duration::from_secs(30);
/// Records in one answer between nodes, bytes; the last one may exceed it.
pub const RETAINED_CHUNK_BYTES: usize = 1 << 20;

const _: () = assert!(RETAINED_CHUNK_BYTES + 2 * MAX_PACKET_BYTES < MAX_GRPC_MESSAGE_BYTES);
const _: () = assert!(2 * (ms(PUBLISH_TIMEOUT) + ms(LEASE) + 2 * ms(LEASE_DRIFT_MARGIN)) < ms(TOMBSTONE_LEAST));
const _: () = assert!(RETAINED_BYTES < RETAINED_NODE_BYTES);
