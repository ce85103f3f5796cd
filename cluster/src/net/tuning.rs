//! How connections between nodes are tuned, at both ends.

use std::time::Duration;

use tonic::transport::{Endpoint, Server};

use crate::limits;

/// A ping each way this often...
const PING_EVERY: Duration = Duration::from_secs(2);
/// ...and a connection whose ping stays unanswered this long is dead: together below a lease and a half.
const PING_TIMEOUT: Duration = Duration::from_secs(4);
/// HTTP/2 may not hold back one stream below what its application-level credit allows (R10).
const STREAM_WINDOW: u32 = limits::MAX_GRPC_MESSAGE_BYTES as u32;
/// Nor one connection below what the streams of many workers may carry together. Permission, not memory:
/// receivers always drain.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// Streams of one peer on one connection.
const STREAMS: u32 = 4096;

const _: () = assert!(limits::FORWARD_WINDOW_BYTES as u32 <= STREAM_WINDOW);
const _: () = assert!(STREAM_WINDOW < CONNECTION_WINDOW);
const _: () = assert!(2 * (PING_EVERY.as_millis() + PING_TIMEOUT.as_millis()) <= 3 * limits::LEASE.as_millis());

/// Tunes the server that peers connect to.
pub fn tune_server(server: Server) -> Server {
    server
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
}

/// Tunes a channel to a peer.
pub fn tune_endpoint(endpoint: Endpoint) -> Endpoint {
    endpoint
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
}
