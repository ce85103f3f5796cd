//! Limits as callers write them: by name, as a number or a word.

use std::collections::{BTreeMap, HashMap};

use rookery_cluster::metadata::{BrokerLimits, LimitEntry, Preset};

use super::error::ApiError;

/// Limits to set, by name, in order.
pub type Limits = Vec<(String, u64)>;

/// A preset; empty is none.
pub(super) fn preset(text: &str) -> Result<Option<Preset>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let unknown = || ApiError::invalid(format!("preset {text:?} is neither standard nor beta"));
    Preset::named(text).map(Some).ok_or_else(unknown)
}

/// Single limits.
///
/// # Errors
/// There is no such limit, or it cannot have that value.
pub(super) fn limits(texts: &HashMap<String, String>) -> Result<Limits, ApiError> {
    let known: BTreeMap<&str, LimitEntry> = BrokerLimits::default().entries().into_iter().map(|l| (l.key, l)).collect();
    let mut limits = Vec::new();
    for (key, text) in texts {
        let Some(limit) = known.get(key.as_str()) else {
            let names: Vec<_> = known.keys().copied().collect();
            return Err(ApiError::invalid(format!("there is no limit {key:?}, only {}", names.join(", "))));
        };
        limits.push((key.clone(), value(limit, text)?));
    }
    limits.sort();
    BrokerLimits::default().with(&limits)?;
    Ok(limits)
}

fn value(limit: &LimitEntry, text: &str) -> Result<u64, ApiError> {
    if limit.words.is_empty() {
        return text.parse().map_err(|_| ApiError::invalid(format!("{} is a whole number, not {text:?}", limit.key)));
    }
    let known = limit.words.iter().position(|word| *word == text);
    let unknown = || ApiError::invalid(format!("{} is {}, not {text:?}", limit.key, limit.words.join(" or ")));
    known.map(|at| at as u64).ok_or_else(unknown)
}

/// All limits of a broker, as callers read them.
pub(super) fn texts(limits: &BrokerLimits) -> BTreeMap<&'static str, String> {
    let text = |limit: LimitEntry| {
        let word = usize::try_from(limit.value).ok().and_then(|at| limit.words.get(at));
        word.map_or_else(|| limit.value.to_string(), |word| (*word).to_owned())
    };
    limits.entries().into_iter().map(|limit| (limit.key, text(limit))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<Limits, ApiError> {
        limits(&pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn as_callers_write_them() {
        let expected = [("packets_per_s".to_owned(), 10), ("retain".to_owned(), 0), ("wills".to_owned(), 1)];
        assert_eq!(parsed(&[("retain", "off"), ("wills", "on"), ("packets_per_s", "10")]), Ok(expected.to_vec()));
        assert_eq!(parsed(&[("shared_strategy", "hash_client")]), Ok(vec![("shared_strategy".to_owned(), 2)]));
        for bad in [
            ("shared_strategy", "2"),
            ("shared_strategy", "on"),
            ("retain", "1"),
            ("retain", ""),
            ("packets_per_s", "-1"),
            ("max_qos", "on"),
            ("no_such", "1"),
        ] {
            assert!(parsed(&[bad]).is_err(), "{bad:?}");
        }
        assert!(parsed(&[("topic_bytes", "65536")]).is_err());
        assert_eq!(preset("beta"), Ok(Some(Preset::Beta)));
        assert_eq!(preset(""), Ok(None));
        assert!(preset("Standard").is_err());
    }

    #[test]
    fn what_is_read_can_be_written() {
        let mut beta = BrokerLimits::of(Preset::Beta);
        beta.set("shared_strategy", 1).unwrap();
        let texts: HashMap<String, String> =
            texts(&beta).into_iter().map(|(key, text)| (key.to_owned(), text)).collect();
        assert_eq!(BrokerLimits::default().with(&limits(&texts).unwrap()), Ok(beta));
    }
}
