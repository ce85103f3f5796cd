//! What a request id stands for.

use ring::digest;
use rookery_cluster::ids::RequestId;
use rookery_cluster::metadata::Scope;

/// First in what is hashed; another way of binding has another.
const VERSION: &[u8] = b"rookery request 1\0";

/// The id under which the cluster remembers a request: the first 128 bits of SHA-256 over whom the API token is
/// good for, the id that the caller chose and the kind of write. So nobody meets another account's outcome by its
/// id, nor a caller that of another kind of write.
pub(super) fn bound(scope: Scope, kind: &str, asked: RequestId) -> RequestId {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(VERSION);
    let (all, account) = match scope {
        Scope::All => (1, 0),
        Scope::Account(account) => (0, account.0),
    };
    hash.update(&[all]);
    hash.update(&u128::to_be_bytes(account));
    hash.update(&asked.0.to_be_bytes());
    hash.update(kind.as_bytes());
    let hash = hash.finish();
    RequestId(hash.as_ref().iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use rookery_cluster::ids::AccountId;

    use super::*;

    #[test]
    fn everything_counts() {
        let one = bound(Scope::All, "revoke", RequestId(1));
        assert_eq!(one, bound(Scope::All, "revoke", RequestId(1)));
        let others = [
            bound(Scope::Account(AccountId(0)), "revoke", RequestId(1)),
            bound(Scope::Account(AccountId(1)), "revoke", RequestId(1)),
            bound(Scope::All, "unrevoke", RequestId(1)),
            bound(Scope::All, "revoke", RequestId(2)),
        ];
        assert!(!others.contains(&one));
        assert_ne!(others[0], others[1]);
    }
}
