//! A broker's limits as they are stored, and as they are named. Fields are only added, in a group of their own with the
//! next version and the meaning that records without them had. A record is written in the oldest version that can say
//! what it says.

use serde::Deserialize;
use serde::de::{Error, SeqAccess};

use crate::topics::ShareStrategy;

/// A limit's value, as commands and the API have it.
pub(super) trait Value: Copy {
    /// What its values are called, from 0; nothing if it is a number.
    const WORDS: &'static [&'static str];
    fn number(self) -> u64;
    fn from_number(number: u64) -> Option<Self>;
}

macro_rules! number {
    ($($ty:ty)*) => {$(
        impl Value for $ty {
            const WORDS: &'static [&'static str] = &[];
            fn number(self) -> u64 {
                self.into()
            }
            fn from_number(number: u64) -> Option<Self> {
                number.try_into().ok()
            }
        }
    )*};
}

number!(u8 u16 u32 u64);

impl Value for bool {
    const WORDS: &'static [&'static str] = &["off", "on"];
    fn number(self) -> u64 {
        self.into()
    }
    fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Value for ShareStrategy {
    const WORDS: &'static [&'static str] = &["local", "round_robin", "hash_client", "hash_topic"];
    fn number(self) -> u64 {
        self.code().into()
    }
    fn from_number(number: u64) -> Option<Self> {
        let code = u8::try_from(number).ok()?;
        Some(Self::from_code(code)).filter(|strategy| strategy.code() == code)
    }
}

/// One limit: its name, its value, and what its values are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitEntry {
    /// The field of `BrokerLimits`.
    pub key: &'static str,
    /// As a number.
    pub value: u64,
    /// The words for its values, from 0; nothing if it is a number.
    pub words: &'static [&'static str],
}

/// Makes `BrokerLimits` from its fields: those of the first record, and the groups that were added since, each with the
/// version of the records that have it.
macro_rules! record {
    (
        $(#[$meta:meta])*
        first { $(#[$packet_doc:meta])* $packet:ident: $packet_ty:ty, $($(#[$doc:meta])* $name:ident: $ty:ty,)* }
        $($version:literal $var:ident $group:ident {
            $($(#[$added_doc:meta])* $added:ident: $added_ty:ty = $before:expr,)*
        })*
    ) => {
        $(#[$meta])*
        pub struct BrokerLimits {
            $(#[$packet_doc])* pub $packet: $packet_ty,
            $($(#[$doc])* pub $name: $ty,)*
            $($($(#[$added_doc])* pub $added: $added_ty,)*)*
        }

        /// The first record, without its first field.
        #[derive(serde::Serialize, serde::Deserialize)]
        struct First {
            $($name: $ty,)*
        }

        $(
            /// What records of this version have besides.
            #[derive(PartialEq, serde::Serialize, serde::Deserialize)]
            struct $group {
                $($added: $added_ty,)*
            }

            impl $group {
                /// What records without it mean.
                const BEFORE: Self = Self { $($added: $before,)* };
            }
        )*

        impl BrokerLimits {
            /// All limits, by name.
            pub fn entries(&self) -> Vec<LimitEntry> {
                fn entry<V: record::Value>(key: &'static str, value: V) -> LimitEntry {
                    LimitEntry { key, value: value.number(), words: V::WORDS }
                }
                vec![
                    entry(stringify!($packet), self.$packet),
                    $(entry(stringify!($name), self.$name),)*
                    $($(entry(stringify!($added), self.$added),)*)*
                ]
            }

            /// Sets the limit named `key`; changes nothing if there is no such limit or it cannot have that value.
            pub fn set(&mut self, key: &str, value: u64) -> Result<(), Refused> {
                fn put<V: record::Value>(field: &mut V, key: &str, value: u64) -> Result<(), Refused> {
                    let bad = || Refused::invalid(format!("{value} is not a value of {key}"));
                    *field = V::from_number(value).ok_or_else(bad)?;
                    Ok(())
                }
                match key {
                    stringify!($packet) => put(&mut self.$packet, key, value),
                    $(stringify!($name) => put(&mut self.$name, key, value),)*
                    $($(stringify!($added) => put(&mut self.$added, key, value),)*)*
                    _ => Err(Refused::invalid(format!("there is no limit {key:?}"))),
                }
            }
        }

        impl serde::Serialize for BrokerLimits {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                let first = First { $($name: self.$name,)* };
                let mut version = 0_u8;
                $(
                    let $var = $group { $($added: self.$added,)* };
                    if $var != $group::BEFORE {
                        version = $version;
                    }
                )*
                if version == 0 {
                    return (self.$packet, first).serialize(to);
                }
                let mut tuple = to.serialize_tuple(4 + usize::from(version))?;
                tuple.serialize_element(&(record::NOT_FIRST, version, self.$packet, first))?;
                $(
                    if $version <= version {
                        tuple.serialize_element(&$var)?;
                    }
                )*
                tuple.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for BrokerLimits {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = BrokerLimits;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a broker's limits")
                    }
                    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<BrokerLimits, A::Error> {
                        let latest = [$($version),*].into_iter().fold(0_u8, u8::max);
                        let (version, $packet) = record::opening(&mut seq, latest)?;
                        let first: First = record::next(&mut seq)?;
                        $(
                            let $var = if $version <= version { record::next(&mut seq)? } else { $group::BEFORE };
                        )*
                        Ok(BrokerLimits {
                            $packet,
                            $($name: first.$name,)*
                            $($($added: $var.$added,)*)*
                        })
                    }
                }
                from.deserialize_tuple(4 + [$($version),*].len(), Visitor)
            }
        }
    };
}
pub(super) use record;

/// In place of the packet bound, which is never 0: the record's version follows, then the packet bound.
pub(super) const NOT_FIRST: u32 = 0;

/// A record's version, 0 for one of the first form, and the packet bound.
pub(super) fn opening<'de, A: SeqAccess<'de>>(seq: &mut A, latest: u8) -> Result<(u8, u32), A::Error> {
    let packet: u32 = next(seq)?;
    if packet != NOT_FIRST {
        return Ok((0, packet));
    }
    let version: u8 = next(seq)?;
    if !(1..=latest).contains(&version) {
        return Err(A::Error::custom("limits of another version"));
    }
    Ok((version, next(seq)?))
}

pub(super) fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(seq: &mut A) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| A::Error::custom("limits end early"))
}
