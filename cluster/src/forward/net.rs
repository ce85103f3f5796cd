//! How connections between nodes are tuned for the data streams.

use std::time::Duration;

use tonic::transport::{Endpoint, Server};

use crate::limits;

/// HTTP/2 window of a stream: a sender that has credit is not held up by flow control below it.
pub const STREAM_WINDOW_BYTES: u32 = limits::FORWARD_WINDOW_BYTES as u32 + (256 << 10);
/// HTTP/2 window of a connection: room for the streams of several workers. What is not read yet is bounded by
/// it, whatever the number of workers.
const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;
/// Largest HTTP/2 frame that a server takes: a batch in tens of frames instead of hundreds.
const FRAME_BYTES: u32 = 128 << 10;
/// A connection on which nothing came for this long is probed.
pub const KEEPALIVE: Duration = Duration::from_secs(1);
/// And given up when the probe is not answered for this long. The sum is below `limits::SUBACK_BARRIER` and
/// `limits::PUBLISH_TIMEOUT`, so that over a dead path the next connection is tried before they end.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

const _: () = assert!(
    KEEPALIVE.as_millis() + KEEPALIVE_TIMEOUT.as_millis() < limits::PUBLISH_TIMEOUT.as_millis()
        && KEEPALIVE.as_millis() + KEEPALIVE_TIMEOUT.as_millis() < limits::SUBACK_BARRIER.as_millis()
);

/// Tunes the server that peers connect to.
pub fn tune_server(server: Server) -> Server {
    server
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// Tunes a channel to a peer.
pub fn tune_endpoint(endpoint: Endpoint) -> Endpoint {
    endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}
