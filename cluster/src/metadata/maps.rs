//! Reads maps entry by entry. PURE.
//!
//! imbl makes room for as many entries as the bytes say will follow, which a few bytes can say of terabytes; the standard
//! library's maps do not.

use std::collections::BTreeMap;

use imbl::OrdMap;
use serde::{Deserialize, Deserializer};

/// A map, with no more memory than its entries need.
pub(super) fn read<'de, D, K, V>(from: D) -> Result<OrdMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + Clone,
    V: Deserialize<'de> + Clone,
{
    BTreeMap::<K, V>::deserialize(from).map(|map| map.into_iter().collect())
}

/// The same, for a map of maps.
pub(super) fn read_nested<'de, D, K, L, V>(from: D) -> Result<OrdMap<K, OrdMap<L, V>>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + Clone,
    L: Deserialize<'de> + Ord + Clone,
    V: Deserialize<'de> + Clone,
{
    let maps = BTreeMap::<K, BTreeMap<L, V>>::deserialize(from)?;
    Ok(maps.into_iter().map(|(key, map)| (key, map.into_iter().collect::<OrdMap<L, V>>())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize, Deserialize)]
    struct Both {
        #[serde(deserialize_with = "read")]
        map: OrdMap<u64, u64>,
        #[serde(deserialize_with = "read_nested")]
        nested: OrdMap<u64, OrdMap<u64, u64>>,
    }

    #[test]
    fn a_map_that_says_it_has_more_entries_than_fit_into_memory_is_refused() {
        let many = postcard::to_stdvec(&(1_u64 << 40)).expect("a number");
        assert!(postcard::from_bytes::<Both>(&many).is_err());
        let nested = [&[0, 1, 7][..], &many].concat();
        assert!(postcard::from_bytes::<Both>(&nested).is_err());
    }

    #[test]
    fn maps_are_read_as_they_were_written() {
        let map: OrdMap<u64, u64> = (0_u64..300).map(|n| (n, n * n)).collect();
        let both = Both { nested: [(5_u64, map.clone())].into_iter().collect(), map };
        let bytes = postcard::to_stdvec(&both).expect("encodes");
        let read: Both = postcard::from_bytes(&bytes).expect("decodes");
        assert_eq!((read.map, read.nested), (both.map, both.nested));
    }
}
