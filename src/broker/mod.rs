//! The broker: what one worker does with its connections. `core` decides (PURE), `worker` performs.

mod accountant;
pub mod core;
mod mailbox;
mod quota;
mod retained;
mod seats;
mod serve;
mod services;
pub mod transport;
pub mod worker;

pub use accountant::Accountant;
pub use mailbox::{Answer, Drained, LocalBatch, Mail, Mailbox};
pub use quota::SharedQuota;
pub use seats::{Counted, Seat, Seats, Source, Tally};
pub use services::Services;
pub use worker::{Worker, WorkerConfig, WorkerStats};
