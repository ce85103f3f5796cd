//! The disk, as an argument. Placeholder: see `log`.
