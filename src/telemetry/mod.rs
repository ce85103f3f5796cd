//! What a node tells about itself: its log, its metrics, its health. A leaf: other rooms fill plain numbers.

mod http;
mod log;
mod metrics;

pub use http::{Health, router};
pub use log::start_log;
pub use metrics::Page;
