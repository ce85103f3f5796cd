//! The secrets that all nodes of a cluster share.

use std::fmt;

use crate::rng::Rng;

/// Shared by all nodes of the cluster; given to a node when it joins.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecrets {
    /// Seals membership datagrams.
    pub cluster_key: [u8; 32],
    /// Encrypts private keys that are kept in the metadata.
    pub key_encryption_key: [u8; 32],
}

impl ClusterSecrets {
    /// Those of a new cluster.
    pub fn generate(rng: &dyn Rng) -> Self {
        let mut secrets = Self { cluster_key: [0; 32], key_encryption_key: [0; 32] };
        rng.fill(&mut secrets.cluster_key);
        rng.fill(&mut secrets.key_encryption_key);
        secrets
    }
}

impl fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecrets(..)")
    }
}
