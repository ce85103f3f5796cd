//! Mutated inputs against everything that reads bytes which others wrote: clients, other nodes, an earlier life's disk.
//!
//! A [target](targets::Target) is a function from an input to nothing, or to what it did wrong. [`run::check`] calls it
//! and takes a panic, and more than [`run::TIME`] of the processor, for wrong as well. Inputs come from
//! [`corpus`] (files under `fuzz/corpus`, and what the targets themselves can encode) through [`mutate`], from a seed: the same
//! seed gives the same inputs.

pub mod corpus;
pub mod mutate;
pub mod rng;
pub mod run;
pub mod targets;

/// Longest input, bytes. What targets keep is a small multiple of that.
pub const MAX_INPUT: usize = 64 << 10;
