//! Which nodes hold which Raft group, and who leads it. [`plan`] is PURE; [`driver`] carries it out: the leader
//! of group 0 writes the wish down as metadata, and each group's leader brings its own membership there.

pub mod driver;
mod leaving;
pub mod plan;
mod settled;

pub use settled::unsettled;
