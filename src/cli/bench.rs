//! `rookery bench`.

use super::Failure;
use crate::bench::{self, BenchError, BenchOptions};

pub(super) fn run(options: &BenchOptions) -> Result<(), Failure> {
    let report = bench::run(options).map_err(|error| match error {
        BenchError::Options(_) | BenchError::Credentials { .. } => Failure::usage(error),
        BenchError::Connect { .. } => Failure::unreachable(error).hint("is a plain MQTT listener on there?"),
        _ => Failure::refused(error),
    })?;
    if options.json {
        println!("{}", report.to_json())
    } else {
        println!("{}", report.to_table())
    }
    Ok(())
}
