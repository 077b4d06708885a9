//! [`MemcgError`]: what an operation on cgroups refuses.

use core::fmt;

use super::handle::Memcg;
use crate::entry::SwapEntry;
use crate::error::EntryError;
use crate::id::MemcgId;

/// A counter that has a limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Resource {
    /// Pages in memory.
    Memory,
    /// Pages in memory and pages in swap.
    Memsw,
    /// Pages in swap alone: `memory.swap.max` of version 2.
    Swap,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Memory => "memory",
            Self::Memsw => "memory and swap",
            Self::Swap => "swap",
        })
    }
}

/// Why an operation on cgroups was refused. Nothing has changed, unless the variant says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MemcgError {
    /// The cgroup was freed; its id may have another one by now.
    Gone {
        /// The handle that names it.
        memcg: Memcg,
    },
    /// All 65,535 ids are in use (the kernel's `ENOSPC`).
    NoId,
    /// The id that was asked for is in use.
    IdInUse {
        /// The id.
        id: MemcgId,
    },
    /// A cgroup comes before its parent, or has one that there is not.
    UnknownParent {
        /// The cgroup.
        id: MemcgId,
        /// The parent that was asked for.
        parent: MemcgId,
    },
    /// No memory for the counters of one more cgroup.
    OutOfMemory {
        /// The bytes that were refused.
        bytes: usize,
    },
    /// The root of the tree goes neither offline nor away, and has no limits.
    IsRoot,
    /// The cgroup is offline: it takes no charges and no children.
    Offline {
        /// The cgroup.
        id: MemcgId,
    },
    /// The cgroup is online: it must go offline before it is freed.
    Online {
        /// The cgroup.
        id: MemcgId,
    },
    /// The cgroup has children: online ones before it goes offline, any before it is freed.
    HasChildren {
        /// The cgroup.
        id: MemcgId,
        /// How many of those children there are.
        children: u32,
    },
    /// Another thread is in `css_offline` or `css_free` of the cgroup.
    Dying {
        /// The cgroup.
        id: MemcgId,
    },
    /// Pages in memory are still charged to the cgroup, or an operation over several regions has some, or charges for
    /// records, in hand.
    Busy {
        /// The cgroup.
        id: MemcgId,
        /// Its own pages in memory, and those in hand.
        pages: u64,
    },
    /// The charge would exceed a limit, of the cgroup or of an ancestor.
    OverLimit {
        /// Whose limit.
        id: MemcgId,
        /// Of which counter.
        resource: Resource,
        /// The pages that were to be charged.
        nr: u64,
        /// The pages that were charged to `id`.
        usage: u64,
        /// The limit in pages.
        limit: u64,
    },
    /// A limit below what is charged was to be set (the kernel's `EBUSY`).
    LimitBelowUsage {
        /// The cgroup.
        id: MemcgId,
        /// Of which counter.
        resource: Resource,
        /// The limit in pages that was asked for.
        limit: u64,
        /// The pages that are charged.
        usage: u64,
    },
    /// Memsw would have a lower limit than memory (the kernel's `EINVAL`).
    LimitOrder {
        /// The cgroup.
        id: MemcgId,
        /// The limit of memory in pages that there would be; `u64::MAX` for no limit.
        memory: u64,
        /// That of memsw.
        memsw: u64,
    },
    /// More pages were to be uncharged, moved or swapped out than the cgroup has in memory.
    NotCharged {
        /// The cgroup.
        id: MemcgId,
        /// The pages that were asked for.
        nr: u64,
        /// Its own pages in memory.
        charged: u64,
    },
    /// The slot has no record.
    NoRecord {
        /// The first such slot.
        entry: SwapEntry,
    },
    /// A page was to be swapped out to a slot that has an owner.
    Occupied {
        /// The first such slot.
        entry: SwapEntry,
        /// Its owner.
        owner: MemcgId,
    },
    /// Slots are to be swapped in together whose pages are not one cgroup's to pay.
    MixedOwners {
        /// The first slot whose page another cgroup pays for than for those before it.
        entry: SwapEntry,
        /// Its owner.
        owner: MemcgId,
        /// The cgroup that is to be charged for the slots before it.
        charged: MemcgId,
    },
    /// What the table of records refused.
    Entry(EntryError),
}

impl From<EntryError> for MemcgError {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

impl fmt::Display for MemcgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Gone { memcg } => write!(
                f,
                "{memcg} was freed: its records and charges are its parent's; use a handle of a cgroup \
                 that is there"
            ),
            Self::NoId => f.write_str(
                "all 65535 ids are in use: free a cgroup with css_free before another is created",
            ),
            Self::OutOfMemory { bytes } => write!(
                f,
                "no memory for one more cgroup: {bytes} bytes were refused; free some"
            ),
            Self::IdInUse { id } => write!(
                f,
                "id {id} is in use: free the cgroup that has it with css_free, or use another"
            ),
            Self::UnknownParent { id, parent } => write!(
                f,
                "cgroup {id} cannot be made under cgroup {parent}, which is not there: name parents before \
                 their children"
            ),
            Self::IsRoot => f.write_str(
                "the root goes neither offline nor away, and has no limits: use a cgroup below it",
            ),
            Self::Offline { id } => write!(
                f,
                "cgroup {id} is offline: charge, or create under, an ancestor that is online"
            ),
            Self::Online { id } => write!(
                f,
                "cgroup {id} is online: take it offline with css_offline first"
            ),
            Self::HasChildren { id, children } => write!(
                f,
                "cgroup {id} has {children} children in the way: let them go first"
            ),
            Self::Dying { id } => write!(
                f,
                "another thread is in css_offline or css_free of cgroup {id}: wait until it is done"
            ),
            Self::Busy { id, pages } => write!(
                f,
                "{pages} pages in memory are charged to cgroup {id}: uncharge them, or move them to \
                 its parent with move_account, before it is freed"
            ),
            Self::OverLimit {
                id,
                resource,
                nr,
                usage,
                limit,
            } => write!(
                f,
                "{nr} pages more would exceed the limit of cgroup {id} for {resource}, {limit} pages, of \
                 which {usage} are charged: free some, or raise it"
            ),
            Self::LimitBelowUsage {
                id,
                resource,
                limit,
                usage,
            } => write!(
                f,
                "the limit of cgroup {id} for {resource} cannot be {limit} pages, as {usage} are charged: \
                 free some, or ask for that many"
            ),
            Self::LimitOrder { id, memory, memsw } => {
                let pages = |limit: u64| match limit {
                    u64::MAX => None,
                    pages => Some(pages),
                };
                match (pages(memory), pages(memsw)) {
                    (Some(memory), Some(memsw)) => write!(
                        f,
                        "cgroup {id} would have a limit of {memory} pages for memory, above that of {memsw} for \
                         memory and swap: raise that one first, or lower this one first"
                    ),
                    (_, memsw) => write!(
                        f,
                        "cgroup {id} would have no limit for memory, and one of {} pages for memory and swap: \
                         set one for memory first, or take that one away first",
                        memsw.unwrap_or(u64::MAX)
                    ),
                }
            }
            Self::NotCharged { id, nr, charged } => write!(
                f,
                "{nr} pages are not charged to cgroup {id} as pages in memory: {charged} are"
            ),
            Self::NoRecord { entry } => write!(
                f,
                "swap entry {entry} has no record: swap a page out to it first"
            ),
            Self::Occupied { entry, owner } => write!(
                f,
                "swap entry {entry} has an owner, cgroup {owner}: free it first, or use another"
            ),
            Self::MixedOwners {
                entry,
                owner,
                charged,
            } => write!(
                f,
                "swap entry {entry} belongs to cgroup {owner}, and for the entries before it cgroup {charged} \
                 is charged: swap the pages of each in by a call of its own"
            ),
            Self::Entry(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MemcgError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Entry(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::SwapType;
    use alloc::string::ToString;
    use core::error::Error;

    #[test]
    fn errors_say_what_where_and_what_to_do() {
        let id = MemcgId::new(7).unwrap();
        let memcg = Memcg::new(id, 2);
        let entry = SwapEntry::new(SwapType::new(3).unwrap(), 17).unwrap();
        let (resource, nr, usage, limit) = (Resource::Memory, 5, 9, 10);
        let over = MemcgError::OverLimit {
            id,
            resource,
            nr,
            usage,
            limit,
        };
        let below = MemcgError::LimitBelowUsage {
            id,
            resource: Resource::Memsw,
            limit: 8,
            usage,
        };
        for (error, text) in [
            (
                MemcgError::Gone { memcg },
                "cgroup 7 (use 2 of the id) was freed: its records and charges are its parent's; use a \
                 handle of a cgroup that is there",
            ),
            (
                MemcgError::NoId,
                "all 65535 ids are in use: free a cgroup with css_free before another is created",
            ),
            (
                MemcgError::OutOfMemory { bytes: 99 },
                "no memory for one more cgroup: 99 bytes were refused; free some",
            ),
            (
                MemcgError::IdInUse { id },
                "id 7 is in use: free the cgroup that has it with css_free, or use another",
            ),
            (
                MemcgError::UnknownParent {
                    id,
                    parent: MemcgId::MAX,
                },
                "cgroup 7 cannot be made under cgroup 65535, which is not there: name parents before their \
                 children",
            ),
            (
                MemcgError::IsRoot,
                "the root goes neither offline nor away, and has no limits: use a cgroup below it",
            ),
            (
                MemcgError::Offline { id },
                "cgroup 7 is offline: charge, or create under, an ancestor that is online",
            ),
            (
                MemcgError::Online { id },
                "cgroup 7 is online: take it offline with css_offline first",
            ),
            (
                MemcgError::HasChildren { id, children: 4 },
                "cgroup 7 has 4 children in the way: let them go first",
            ),
            (
                MemcgError::Dying { id },
                "another thread is in css_offline or css_free of cgroup 7: wait until it is done",
            ),
            (
                MemcgError::Busy { id, pages: 6 },
                "6 pages in memory are charged to cgroup 7: uncharge them, or move them to its parent \
                 with move_account, before it is freed",
            ),
            (
                over,
                "5 pages more would exceed the limit of cgroup 7 for memory, 10 pages, of which 9 are \
                 charged: free some, or raise it",
            ),
            (
                below,
                "the limit of cgroup 7 for memory and swap cannot be 8 pages, as 9 are charged: free \
                 some, or ask for that many",
            ),
            (
                MemcgError::LimitOrder {
                    id,
                    memory: 9,
                    memsw: 8,
                },
                "cgroup 7 would have a limit of 9 pages for memory, above that of 8 for memory and swap: raise \
                 that one first, or lower this one first",
            ),
            (
                MemcgError::LimitOrder {
                    id,
                    memory: u64::MAX,
                    memsw: 8,
                },
                "cgroup 7 would have no limit for memory, and one of 8 pages for memory and swap: set one for \
                 memory first, or take that one away first",
            ),
            (
                MemcgError::NotCharged { id, nr, charged: 3 },
                "5 pages are not charged to cgroup 7 as pages in memory: 3 are",
            ),
            (
                MemcgError::NoRecord { entry },
                "swap entry 3:17 has no record: swap a page out to it first",
            ),
            (
                MemcgError::Occupied { entry, owner: id },
                "swap entry 3:17 has an owner, cgroup 7: free it first, or use another",
            ),
            (
                MemcgError::MixedOwners {
                    entry,
                    owner: id,
                    charged: MemcgId::MIN,
                },
                "swap entry 3:17 belongs to cgroup 7, and for the entries before it cgroup 1 is charged: swap \
                 the pages of each in by a call of its own",
            ),
        ] {
            assert_eq!(error.to_string(), text);
            assert!(error.source().is_none());
        }
        let ty = SwapType::new(3).unwrap();
        let off = EntryError::TypeOff { ty, offset: None };
        let error = MemcgError::from(off);
        assert_eq!(error.to_string(), off.to_string());
        assert!(error.source().is_some());
    }
}
