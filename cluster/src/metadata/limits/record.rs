//! A broker's limits as they are stored, and as they are named. Fields are only added, at the end of `added`, with the
//! next version and the meaning that records without them had.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A limit's value, as commands and the API have it.
pub(super) trait Value: Copy {
    /// Whether it is a switch: 0 is off, 1 is on.
    const SWITCH: bool;
    fn number(self) -> u64;
    fn from_number(number: u64) -> Option<Self>;
}

macro_rules! number {
    ($($ty:ty)*) => {$(
        impl Value for $ty {
            const SWITCH: bool = false;
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
    const SWITCH: bool = true;
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

/// One limit: its name, its value, and whether that is a switch (0 off, 1 on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitEntry {
    /// The field of `BrokerLimits`.
    pub key: &'static str,
    /// As a number.
    pub value: u64,
    /// Whether it is on or off.
    pub switch: bool,
}

/// Makes `BrokerLimits` from its fields: those of the first record, and those added since.
macro_rules! record {
    (
        $(#[$meta:meta])*
        first { $(#[$packet_doc:meta])* $packet:ident: $packet_ty:ty, $($(#[$doc:meta])* $name:ident: $ty:ty,)* }
        added { $($(#[$added_doc:meta])* $added:ident: $added_ty:ty = $before:expr,)* }
    ) => {
        $(#[$meta])*
        pub struct BrokerLimits {
            $(#[$packet_doc])* pub $packet: $packet_ty,
            $($(#[$doc])* pub $name: $ty,)*
            $($(#[$added_doc])* pub $added: $added_ty,)*
        }

        /// The first record, without its first field.
        #[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
        pub(super) struct First {
            $($name: $ty,)*
        }

        /// What was added to it.
        #[derive(Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
        pub(super) struct Added {
            $($added: $added_ty,)*
        }

        impl Added {
            /// What records without it mean.
            const BEFORE: Self = Self { $($added: $before,)* };
        }

        impl record::Parts for BrokerLimits {
            type First = First;
            type Added = Added;
            fn parts(&self) -> (u32, First, Added) {
                (self.$packet, First { $($name: self.$name,)* }, Added { $($added: self.$added,)* })
            }
            fn join($packet: u32, first: First, added: Option<Added>) -> Self {
                let added = added.unwrap_or(Added::BEFORE);
                Self { $packet, $($name: first.$name,)* $($added: added.$added,)* }
            }
            fn is_first(added: &Added) -> bool {
                *added == Added::BEFORE
            }
        }

        impl BrokerLimits {
            /// All limits, by name.
            pub fn entries(&self) -> Vec<LimitEntry> {
                fn entry<V: record::Value>(key: &'static str, value: V) -> LimitEntry {
                    LimitEntry { key, value: value.number(), switch: V::SWITCH }
                }
                vec![
                    entry(stringify!($packet), self.$packet),
                    $(entry(stringify!($name), self.$name),)*
                    $(entry(stringify!($added), self.$added),)*
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
                    $(stringify!($added) => put(&mut self.$added, key, value),)*
                    _ => Err(Refused::invalid(format!("there is no limit {key:?}"))),
                }
            }
        }

        impl serde::Serialize for BrokerLimits {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                record::write(self, to)
            }
        }

        impl<'de> serde::Deserialize<'de> for BrokerLimits {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                record::read(from)
            }
        }
    };
}
pub(super) use record;

/// The version of records that are not of the first form.
const VERSION: u8 = 1;
/// In place of the packet bound, which is never 0: a record of another form follows.
const NOT_FIRST: u32 = 0;

/// How a record is taken apart.
pub(super) trait Parts: Sized {
    type First: Serialize + for<'de> Deserialize<'de>;
    type Added: Serialize + for<'de> Deserialize<'de>;
    fn parts(&self) -> (u32, Self::First, Self::Added);
    fn join(packet: u32, first: Self::First, added: Option<Self::Added>) -> Self;
    /// Whether the record says the same without it.
    fn is_first(added: &Self::Added) -> bool;
}

pub(super) fn write<P: Parts, S: Serializer>(record: &P, to: S) -> Result<S::Ok, S::Error> {
    let (packet, first, added) = record.parts();
    if P::is_first(&added) {
        return (packet, first).serialize(to);
    }
    (NOT_FIRST, VERSION, packet, first, added).serialize(to)
}

pub(super) fn read<'de, P: Parts, D: Deserializer<'de>>(from: D) -> Result<P, D::Error> {
    struct Visitor<P>(std::marker::PhantomData<P>);
    impl<'de, P: Parts> serde::de::Visitor<'de> for Visitor<P> {
        type Value = P;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a broker's limits")
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<P, A::Error> {
            let packet: u32 = next(&mut seq)?;
            if packet != NOT_FIRST {
                return Ok(P::join(packet, next(&mut seq)?, None));
            }
            let version: u8 = next(&mut seq)?;
            if version != VERSION {
                return Err(A::Error::custom("limits of another version"));
            }
            Ok(P::join(next(&mut seq)?, next(&mut seq)?, Some(next(&mut seq)?)))
        }
    }
    from.deserialize_tuple(5, Visitor(std::marker::PhantomData))
}

fn next<'de, A: serde::de::SeqAccess<'de>, T: Deserialize<'de>>(seq: &mut A) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| A::Error::custom("limits end early"))
}
