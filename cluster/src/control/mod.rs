//! What nodes tell each other about leases, claims and metadata, and the ports through which the drivers of
//! this crate see each other: tests put fakes behind them.

mod everywhere;
mod fence;
pub mod fuzz;
mod grpc;
mod handover;
mod metadata;
mod ports;
mod service;

pub use everywhere::{NotEverywhere, await_everywhere};
pub use fence::fence;
pub use grpc::GrpcControl;
pub use handover::Handover;
pub use metadata::NodeMetadata;
pub use ports::{
    AppliedPort, ControlClient, ControlError, KeptSessions, MetaPort, Notice, NoticeKind, Notices, SessionReply,
    SharedControl, SharedMeta,
};
pub use service::ControlService;

/// Bytes of notices in one message to a node: small against `limits::MAX_GRPC_MESSAGE_BYTES`.
pub const NOTIFY_BYTES: usize = 1 << 20;
const _: () = assert!(2 * NOTIFY_BYTES < crate::limits::MAX_GRPC_MESSAGE_BYTES);
