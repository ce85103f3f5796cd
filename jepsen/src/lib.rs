//! Real clusters under fault. A [`Cluster`] is what `rookery dev` starts; [`workload`] drives clients against it and
//! writes down in a [`History`] what each of them saw; [`nemesis`] breaks things meanwhile; [`checker`] reads the history
//! once and says which promise it breaks.
//!
//! A history is in the order in which things were seen: what is asked is written down before it is sent, what is answered
//! after it has come. So "A was answered before B was asked" in the history is so in truth, and the checkers conclude
//! from nothing else.

pub mod checker;
pub mod cluster;
pub mod failover;
pub mod history;
pub mod nemesis;
pub mod report;
pub mod workload;

pub use cluster::Cluster;
pub use history::{Entry, History, What};
