//! Implementations of `serde`'s traits for the small types, with the feature `serde`. Types that derive them
//! do so where they are defined.
//!
//! | type | form |
//! | --- | --- |
//! | `SwapType`, `MemcgId` | a number |
//! | `SwapEntry` | text, `"3:4711"`, in human-readable formats; its bits in others |
//! | `Backend` | its name |
//! | `Run`, `Migrated`, `Usage`, `Footprint`, `Extent` | a map of the fields |
//! | `Exchange`, `Resource` | a variant in lower case |
//!
//! An entry is text in JSON because many programs do not read numbers above 2^53 exactly.
//!
//! Deserializing fails for values that the type does not have. For structs that may get more fields, unknown
//! fields are ignored. Missing fields of [`Migrated`](crate::Migrated) and [`Footprint`](crate::Footprint)
//! are 0.

use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::entry::{Run, SwapEntry};
use crate::id::MemcgId;
use crate::scan::Backend;

impl Serialize for SwapEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.to_bits())
        }
    }
}

impl<'de> Deserialize<'de> for SwapEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = SwapEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a swap entry as its type and its offset, such as \"3:4711\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SwapEntry, E> {
                text.parse().map_err(E::custom)
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Text)
        } else {
            let bits = u64::deserialize(deserializer)?;
            Self::try_from(bits).map_err(D::Error::custom)
        }
    }
}

impl Serialize for Backend {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Backend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = Backend;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a backend, such as \"wide\"")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Backend, E> {
                name.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Name)
    }
}

/// A [`Run`] that has not been checked.
#[derive(serde::Deserialize)]
#[serde(rename = "Run")]
pub(crate) struct RawRun {
    start: SwapEntry,
    len: u64,
    id: MemcgId,
}

/// The error for a [`RawRun`] that is not a valid [`Run`].
pub(crate) struct NoRun {
    start: SwapEntry,
    len: u64,
}

impl TryFrom<RawRun> for Run {
    type Error = NoRun;

    fn try_from(RawRun { start, len, id }: RawRun) -> Result<Self, NoRun> {
        // Both must exist: a last slot, and an entry for it.
        let last = len.checked_sub(1).and_then(|last| start.checked_add(last));
        match last {
            Some(_) => Ok(Self { start, len, id }),
            None => Err(NoRun { start, len }),
        }
    }
}

impl fmt::Display for NoRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, len } = self;
        let most = SwapEntry::MAX_OFFSET - start.offset() + 1;
        write!(
            f,
            "a run of {len} slots cannot begin at {start}: use 1 to {most} slots"
        )
    }
}
