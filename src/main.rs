//! The program `rookery`: see [`rookery::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    rookery::cli::main()
}
