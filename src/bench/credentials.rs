//! Client IDs and tokens from a file, in its order.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::BenchError;

/// Who a client is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Client ID, and user name.
    pub client_id: String,
    /// Password; `None` is anonymous.
    pub token: Option<String>,
}

impl Credential {
    /// The `n`th of this run's clients without a token.
    fn anonymous(n: usize) -> Self {
        Self { client_id: format!("bench-{}-{n}", std::process::id()), token: None }
    }
}

/// Who the clients are: what a file says, or numbered and anonymous.
#[derive(Clone, Default)]
pub struct Credentials {
    given: Option<(String, Vec<Credential>)>,
}

impl Credentials {
    /// Reads a JSON map from client ID to token, keeping its order.
    ///
    /// # Errors
    /// It cannot be read, or is no such map.
    pub fn load(path: Option<&Path>) -> Result<Self, BenchError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let file = path.display().to_string();
        let refuse = |problem: String| BenchError::Credentials { file: file.clone(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let Pairs(given) = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { given: Some((file, given)) })
    }

    /// The first `count` of them.
    ///
    /// # Errors
    /// The file has fewer.
    pub fn take(&self, count: usize) -> Result<Vec<Credential>, BenchError> {
        match &self.given {
            None => Ok((0..count).map(Credential::anonymous).collect()),
            Some((_, given)) if given.len() >= count => Ok(given[..count].to_vec()),
            Some((file, given)) => Err(BenchError::Credentials {
                file: file.clone(),
                problem: format!("it has {} credentials, this run needs {count}", given.len()),
            }),
        }
    }
}

/// Clients each of whom connects once. Threads share it.
pub struct Fresh {
    all: Credentials,
    next: AtomicUsize,
}

impl From<Credentials> for Fresh {
    fn from(all: Credentials) -> Self {
        Self { all, next: AtomicUsize::new(0) }
    }
}

impl Fresh {
    /// One who has not connected yet.
    ///
    /// # Errors
    /// The file has no more.
    pub fn next(&self) -> Result<Credential, BenchError> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        match &self.all.given {
            None => Ok(Credential::anonymous(next)),
            Some((file, given)) => given.get(next).cloned().ok_or_else(|| BenchError::Credentials {
                file: file.clone(),
                problem: format!("each of its {} credentials was used once, and this run needs more", given.len()),
            }),
        }
    }
}

struct Pairs(Vec<Credential>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from client id to token")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some((client_id, token)) = map.next_entry::<String, String>()? {
                    pairs.push(Credential { client_id, token: Some(token) });
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connects_once() {
        let given = Some(("file".to_owned(), Pairs::parse(r#"{"b": "1", "a": "2"}"#)));
        let fresh = Fresh::from(Credentials { given });
        let ids: Vec<_> = (0..2).map(|_| fresh.next().ok().unwrap().client_id).collect();
        assert_eq!(ids, ["b", "a"]);
        assert!(matches!(fresh.next(), Err(BenchError::Credentials { .. })));
        let anonymous = Fresh::from(Credentials::default());
        let next = || anonymous.next().ok().unwrap().client_id;
        assert_ne!(next(), next());
    }

    impl Pairs {
        fn parse(text: &str) -> Vec<Credential> {
            serde_json::from_str::<Pairs>(text).unwrap().0
        }
    }
}
