//! Client IDs and tokens from a file, in its order.

use std::fmt;
use std::path::Path;

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
            None => Ok((0..count)
                .map(|n| Credential { client_id: format!("bench-{}-{n}", std::process::id()), token: None })
                .collect()),
            Some((_, given)) if given.len() >= count => Ok(given[..count].to_vec()),
            Some((file, given)) => Err(BenchError::Credentials {
                file: file.clone(),
                problem: format!("it has {} credentials, this run needs {count}", given.len()),
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
