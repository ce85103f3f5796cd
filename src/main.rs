//! The program.
//!
fn main() {}
