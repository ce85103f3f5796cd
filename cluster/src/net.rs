//! The network, as an argument. Placeholder.
