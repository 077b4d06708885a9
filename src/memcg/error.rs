//! [`MemcgError`]: why an operation on cgroups was refused.

use core::fmt;

use super::handle::Memcg;
use crate::entry::SwapEntry;
use crate::error::EntryError;
use crate::id::MemcgId;

/// A counter that can have a limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Resource {
    /// Pages in memory.
    Memory,
    /// Pages in memory and pages in swap together.
    Memsw,
    /// Pages in swap: `memory.swap.max` of version 2 of memory cgroups.
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

/// Why an operation on cgroups was refused. Nothing has changed, unless the operation documents an exception.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MemcgError {
    /// The cgroup was freed. Another cgroup may have its id by now.
    Gone {
        /// The handle of the freed cgroup.
        memcg: Memcg,
    },
    /// All 65,535 ids are in use (the kernel's `ENOSPC`).
    NoId,
    /// The id is in use.
    IdInUse {
        /// The id that was asked for.
        id: MemcgId,
    },
    /// A cgroup to be restored has a parent that does not exist, or that comes after it.
    UnknownParent {
        /// The id of the cgroup.
        id: MemcgId,
        /// The id of its parent.
        parent: MemcgId,
    },
    /// An allocation for another cgroup failed.
    OutOfMemory {
        /// The size of the allocation, in bytes.
        bytes: usize,
    },
    /// The root cannot go offline, be freed, or have limits or a parent.
    IsRoot,
    /// The cgroup is offline, so it gets no charges, records or children.
    Offline {
        /// The id of the cgroup.
        id: MemcgId,
    },
    /// The cgroup is online. It must go offline before it is freed.
    Online {
        /// The id of the cgroup.
        id: MemcgId,
    },
    /// The cgroup has children: an online child refuses `css_offline`, any child refuses `css_free`.
    HasChildren {
        /// The id of the cgroup.
        id: MemcgId,
        /// The number of children that refuse the operation.
        children: u32,
    },
    /// Another thread is in `css_offline` or `css_free` of the cgroup.
    Dying {
        /// The id of the cgroup.
        id: MemcgId,
    },
    /// The cgroup cannot be freed, because it has pages in memory, or an operation over several regions has
    /// pages or charges for records of it in hand.
    Busy {
        /// The id of the cgroup.
        id: MemcgId,
        /// The cgroup's own pages in memory, and the pages and charges in hand.
        pages: u64,
    },
    /// The charge would exceed a limit of the cgroup or of an ancestor.
    OverLimit {
        /// The id of the cgroup whose limit it is.
        id: MemcgId,
        /// The counter that the limit is for.
        resource: Resource,
        /// The number of pages to be charged.
        nr: u64,
        /// The number of pages that are charged to `id`.
        usage: u64,
        /// The limit, in pages.
        limit: u64,
    },
    /// The new limit is below what is charged already (the kernel's `EBUSY`).
    LimitBelowUsage {
        /// The id of the cgroup.
        id: MemcgId,
        /// The counter that the limit is for.
        resource: Resource,
        /// The new limit, in pages.
        limit: u64,
        /// The number of pages that are charged.
        usage: u64,
    },
    /// The limit of memory would be above the limit of memsw (the kernel's `EINVAL`).
    LimitOrder {
        /// The id of the cgroup.
        id: MemcgId,
        /// The limit of memory, in pages, as it would be. `u64::MAX` stands for no limit.
        memory: u64,
        /// The limit of memsw, in pages, as it would be. `u64::MAX` stands for no limit.
        memsw: u64,
    },
    /// The cgroup has fewer pages of its own in memory than were to be uncharged, moved or swapped out.
    NotCharged {
        /// The id of the cgroup.
        id: MemcgId,
        /// The number of pages that were asked for.
        nr: u64,
        /// The number of the cgroup's own pages in memory.
        charged: u64,
    },
    /// The slot has no record.
    NoRecord {
        /// The first such slot.
        entry: SwapEntry,
    },
    /// The slot has an owner, so no page can be swapped out to it.
    Occupied {
        /// The first such slot.
        entry: SwapEntry,
        /// The owner of the slot.
        owner: MemcgId,
    },
    /// Different cgroups would have to pay for pages that are swapped in together.
    MixedOwners {
        /// The first slot that another cgroup pays for than the slots before it.
        entry: SwapEntry,
        /// The owner of that slot.
        owner: MemcgId,
        /// The cgroup that pays for the slots before it.
        charged: MemcgId,
    },
    /// The table refused the operation.
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
                "{memcg} was freed, and its parent has its records and charges: use a cgroup that exists"
            ),
            Self::NoId => f.write_str(
                "all 65535 ids are in use: free a cgroup with css_free before another is created",
            ),
            Self::OutOfMemory { bytes } => write!(
                f,
                "no memory for another cgroup: {bytes} bytes were refused; free some memory"
            ),
            Self::IdInUse { id } => write!(
                f,
                "id {id} is in use: free the cgroup that has it with css_free, or use another id"
            ),
            Self::UnknownParent { id, parent } => write!(
                f,
                "cgroup {id} cannot be created, because its parent {parent} does not exist: list parents \
                 before their children"
            ),
            Self::IsRoot => f.write_str(
                "the root cannot go offline, be freed, or have limits or a parent: use a cgroup below it",
            ),
            Self::Offline { id } => write!(
                f,
                "cgroup {id} is offline and gets no charges, records or children: use an online ancestor"
            ),
            Self::Online { id } => write!(
                f,
                "cgroup {id} is online: take it offline with css_offline first"
            ),
            Self::HasChildren { id, children } => write!(
                f,
                "cgroup {id} has {children} children: take them offline before css_offline, and free them \
                 before css_free"
            ),
            Self::Dying { id } => write!(
                f,
                "another thread is in css_offline or css_free of cgroup {id}: wait until that call has \
                 returned"
            ),
            Self::Busy { id, pages } => write!(
                f,
                "cgroup {id} has {pages} pages in memory or in an operation: uncharge them, or move them to \
                 its parent with move_account, before css_free"
            ),
            Self::OverLimit {
                id,
                resource,
                nr,
                usage,
                limit,
            } => write!(
                f,
                "{nr} more pages would exceed the limit of cgroup {id} for {resource}: {usage} of {limit} \
                 pages are charged; free some, or raise the limit"
            ),
            Self::LimitBelowUsage {
                id,
                resource,
                limit,
                usage,
            } => write!(
                f,
                "the limit of cgroup {id} for {resource} cannot be {limit} pages, because {usage} are \
                 charged: free some, or set a limit of at least {usage}"
            ),
            Self::LimitOrder { id, memory, memsw } => {
                let pages = |limit: u64| match limit {
                    u64::MAX => None,
                    pages => Some(pages),
                };
                match (pages(memory), pages(memsw)) {
                    (Some(memory), Some(memsw)) => write!(
                        f,
                        "the limit of cgroup {id} for memory, {memory} pages, would be above its limit for \
                         memory and swap, {memsw} pages: raise memory and swap first, or lower memory first"
                    ),
                    (_, memsw) => write!(
                        f,
                        "cgroup {id} would have no limit for memory, but one of {} pages for memory and \
                         swap: limit memory first, or remove the limit for memory and swap first",
                        memsw.unwrap_or(u64::MAX)
                    ),
                }
            }
            Self::NotCharged { id, nr, charged } => write!(
                f,
                "cgroup {id} has {charged} pages of its own in memory, not {nr}: name the cgroup that the \
                 pages are charged to"
            ),
            Self::NoRecord { entry } => write!(
                f,
                "swap entry {entry} has no record: swap a page out to it first"
            ),
            Self::Occupied { entry, owner } => write!(
                f,
                "swap entry {entry} is owned by cgroup {owner}: free it with free_swap first, or use another \
                 slot"
            ),
            Self::MixedOwners {
                entry,
                owner,
                charged,
            } => write!(
                f,
                "swap entry {entry} is owned by cgroup {owner}, but cgroup {charged} pays for the entries \
                 before it: swap in the pages of each cgroup with a call of their own"
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
                "cgroup 7 (generation 2) was freed, and its parent has its records and charges: use a cgroup \
                 that exists",
            ),
            (
                MemcgError::NoId,
                "all 65535 ids are in use: free a cgroup with css_free before another is created",
            ),
            (
                MemcgError::OutOfMemory { bytes: 99 },
                "no memory for another cgroup: 99 bytes were refused; free some memory",
            ),
            (
                MemcgError::IdInUse { id },
                "id 7 is in use: free the cgroup that has it with css_free, or use another id",
            ),
            (
                MemcgError::UnknownParent {
                    id,
                    parent: MemcgId::MAX,
                },
                "cgroup 7 cannot be created, because its parent 65535 does not exist: list parents before \
                 their children",
            ),
            (
                MemcgError::IsRoot,
                "the root cannot go offline, be freed, or have limits or a parent: use a cgroup below it",
            ),
            (
                MemcgError::Offline { id },
                "cgroup 7 is offline and gets no charges, records or children: use an online ancestor",
            ),
            (
                MemcgError::Online { id },
                "cgroup 7 is online: take it offline with css_offline first",
            ),
            (
                MemcgError::HasChildren { id, children: 4 },
                "cgroup 7 has 4 children: take them offline before css_offline, and free them before \
                 css_free",
            ),
            (
                MemcgError::Dying { id },
                "another thread is in css_offline or css_free of cgroup 7: wait until that call has \
                 returned",
            ),
            (
                MemcgError::Busy { id, pages: 6 },
                "cgroup 7 has 6 pages in memory or in an operation: uncharge them, or move them to its \
                 parent with move_account, before css_free",
            ),
            (
                over,
                "5 more pages would exceed the limit of cgroup 7 for memory: 9 of 10 pages are charged; free \
                 some, or raise the limit",
            ),
            (
                below,
                "the limit of cgroup 7 for memory and swap cannot be 8 pages, because 9 are charged: free \
                 some, or set a limit of at least 9",
            ),
            (
                MemcgError::LimitOrder {
                    id,
                    memory: 9,
                    memsw: 8,
                },
                "the limit of cgroup 7 for memory, 9 pages, would be above its limit for memory and swap, \
                 8 pages: raise memory and swap first, or lower memory first",
            ),
            (
                MemcgError::LimitOrder {
                    id,
                    memory: u64::MAX,
                    memsw: 8,
                },
                "cgroup 7 would have no limit for memory, but one of 8 pages for memory and swap: limit \
                 memory first, or remove the limit for memory and swap first",
            ),
            (
                MemcgError::NotCharged { id, nr, charged: 3 },
                "cgroup 7 has 3 pages of its own in memory, not 5: name the cgroup that the pages are \
                 charged to",
            ),
            (
                MemcgError::NoRecord { entry },
                "swap entry 3:17 has no record: swap a page out to it first",
            ),
            (
                MemcgError::Occupied { entry, owner: id },
                "swap entry 3:17 is owned by cgroup 7: free it with free_swap first, or use another slot",
            ),
            (
                MemcgError::MixedOwners {
                    entry,
                    owner: id,
                    charged: MemcgId::MIN,
                },
                "swap entry 3:17 is owned by cgroup 7, but cgroup 1 pays for the entries before it: swap in \
                 the pages of each cgroup with a call of their own",
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
