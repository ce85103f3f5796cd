//! What a node tells about itself: its log.

mod log;

pub use log::start_log;
