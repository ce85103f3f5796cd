//! The load tool: `rookery bench`. It drives any MQTT broker in a closed loop and reports what was delivered per
//! second, what that cost the server in CPU time, what was lost, doubled or out of order, and how long it took.
//!
//! One thread, non-blocking sockets, one read and one write per wake-up and socket, packets built from a template
//! and scanned in place: the tool must not be what is measured. It says how much of a core it used itself.

mod admin;
mod churn;
mod conn;
mod credentials;
mod error;
mod flow;
mod idle;
mod load;
mod options;
mod plan;
mod process;
mod report;
mod setup;
mod takeover;
mod wild;
mod wire;

pub use credentials::{Credential, Credentials};
pub use error::BenchError;
pub use options::{BenchOptions, Scenario};
pub use report::{Held, Latency, Report};

/// Runs a scenario to its end.
///
/// # Errors
/// A server that cannot be reached, refuses, or closes a connection in the middle.
pub fn run(options: &BenchOptions) -> Result<Report, BenchError> {
    options.check()?;
    match options.scenario {
        Scenario::Connect => churn::run(options),
        Scenario::Takeover => takeover::run(options),
        Scenario::Admin => admin::run(options),
        Scenario::Idle => idle::run(options),
        Scenario::Fanout
        | Scenario::Fanin
        | Scenario::Pairs
        | Scenario::Wild
        | Scenario::Shared
        | Scenario::Latency => load::run(options),
    }
}
