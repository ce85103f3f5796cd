//! Cheap handles: what the broker holds of the cluster. Placeholder.
