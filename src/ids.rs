//! Newtypes of identifiers and sequences, with their text forms, and maps by them.
//!
//! Text forms are opaque to users (`srv_12`, `sto_1`, `ord_1_640`, `cmd_12_640`); the numbers inside
//! route a request to its shard without a look-up. A number is never used twice.

use std::fmt;
use std::str::FromStr;

pub(crate) use number_map::{NumberMap, mix};

mod number_map;

/// A text that is not an identifier of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadId {
    /// The prefix that was expected, for example `srv`.
    pub kind: &'static str,
}

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an identifier of the form {}_...", self.kind)
    }
}

impl std::error::Error for BadId {}

/// Reads a canonical decimal number: no sign, no leading zero, at least 1.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let canonical = !text.is_empty() && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    if canonical { text.parse().ok() } else { None }
}

macro_rules! single {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(number)
                    .map($name)
                    .ok_or(BadId { kind: $prefix })
            }
        }
    };
}

macro_rules! pair {
    ($(#[$doc:meta])* $name:ident { $(#[$ownerdoc:meta])* $owner:ident: $owner_type:ident }, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            $(#[$ownerdoc])*
            pub $owner: $owner_type,
            /// Its place in the order of acceptance.
            pub seq: Seq,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}_{}"), self.$owner.0, self.seq.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(|rest| rest.split_once('_'))
                    .and_then(|(owner, seq)| Some($name { $owner: $owner_type(number(owner)?), seq: Seq(number(seq)?) }))
                    .ok_or(BadId { kind: $prefix })
            }
        }
    };
}

single!(
    /// A tenant (a shop). 1 is the default store.
    StoreId(u32),
    "sto"
);
single!(
    /// A registered game server, owner of one queue.
    ServerId(u32),
    "srv"
);
single!(
    /// An API key.
    KeyId(u32),
    "key"
);
single!(
    /// A record of the audit trail, in the order of writing.
    AuditId(u64),
    "aud"
);

/// The place of a command in the order of acceptance: rising per server, unique in a data directory.
///
/// `n * SHARDS_MAX + shard` of the desk that accepted it, so that desks never share a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

pair!(
    /// One command of one server.
    CommandId {
        /// The server that runs it.
        server: ServerId
    },
    "cmd"
);
pair!(
    /// One order of one store; `seq` is the one of its first command.
    OrderId {
        /// The store that published it.
        store: StoreId
    },
    "ord"
);

/// One accepted plugin session; rising over the life of a data directory (boot number in the upper 32 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionEpoch(pub u64);

/// A connection or waiting request, as the broker numbers them; never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// The number of a shard, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardNo(pub u16);

/// The number of a journal frame of one shard, from 1, without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FrameNo(pub u64);

impl ServerId {
    /// The shard that owns this server's queue.
    pub fn shard(self, shards: u16) -> ShardNo {
        ShardNo((self.0 % u32::from(shards)) as u16)
    }
}

impl StoreId {
    /// The shard whose desk accepts this store's orders.
    pub fn shard(self, shards: u16) -> ShardNo {
        ShardNo((self.0 % u32::from(shards)) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_read_back() {
        let command = CommandId { server: ServerId(12), seq: Seq(640) };
        assert_eq!(command.to_string(), "cmd_12_640");
        assert_eq!("cmd_12_640".parse(), Ok(command));
        assert_eq!("srv_7".parse(), Ok(ServerId(7)));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "srv_", "srv_0", "srv_01", "srv_+1", "srv_-1", "srv_4294967296", "sto_1", "srv_1 "] {
            assert_eq!(text.parse::<ServerId>(), Err(BadId { kind: "srv" }), "{text:?}");
        }
        for text in ["cmd_1", "cmd_1_", "cmd_1_2_3", "cmd_0_1", "cmd_1_0", "ord_1_2"] {
            assert!(text.parse::<CommandId>().is_err(), "{text:?}");
        }
    }
}
