//! The messages between nodes and of the administration API, compiled from `proto/*.proto`: each file is a
//! module here of the same name. No logic. Fields are only ever added; numbers are never used again.

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// The encoded `FileDescriptorSet` of all packages, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
