//! The threads that publishes between nodes run on.

use std::io;

use tokio::runtime::{Handle, Runtime};

/// Publishes between nodes have a thread of their own: the control plane never queues behind them (R18).
pub struct DataPlane(Option<Runtime>);

impl DataPlane {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("data").enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    /// Where its tasks are spawned.
    pub fn handle(&self) -> Handle {
        // It is taken by `drop` only.
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        // A runtime must not wait for its end on another runtime's thread.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
