//! How long a credential is valid.

/// A length of validity that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// `-1`: a token without `exp`, even if the broker has an expiration.
    Never,
    /// This many seconds from issuance; not 0.
    Seconds(u64),
}

/// The seconds that a credential is valid (`None`: for ever), by the broker's expiration and what was asked for: the
/// shorter wins, but an explicit "never" beats both ("Credential Lifetime and Expiration").
pub fn effective_lifetime(broker: Option<u64>, asked: Option<Lifetime>) -> Option<u64> {
    match (broker, asked) {
        (_, Some(Lifetime::Never)) => None,
        (Some(broker), Some(Lifetime::Seconds(asked))) => Some(broker.min(asked)),
        (None, Some(Lifetime::Seconds(asked))) => Some(asked),
        (broker, None) => broker,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_wins_and_never_beats_both() {
        use Lifetime::{Never, Seconds};
        assert_eq!(effective_lifetime(None, None), None);
        assert_eq!(effective_lifetime(Some(7), None), Some(7));
        assert_eq!(effective_lifetime(Some(7), Some(Seconds(3))), Some(3));
        assert_eq!(effective_lifetime(Some(7), Some(Seconds(9))), Some(7));
        assert_eq!(effective_lifetime(None, Some(Seconds(9))), Some(9));
        assert_eq!(effective_lifetime(Some(7), Some(Never)), None);
        assert_eq!(effective_lifetime(None, Some(Never)), None);
    }
}
