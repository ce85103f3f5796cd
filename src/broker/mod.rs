//! The broker: what one worker does with its connections. `core` decides (PURE), `worker` performs.

pub mod core;
