//! Reads and writes the section of an image that has a tree of cgroups.
//!
//! The section begins with the number of cgroups, in eight bytes. [`TREE_ENTRY`] bytes for each cgroup
//! follow, parents first. Records and counters are not in it: records are those of the table, and counters
//! are sums.

use std::vec::Vec;

use lock_api::RawMutex;

use super::error::ImageError;
use super::format::{TREE_ENTRY, TREE_HEADER, get_u32, get_u64};
use super::room;
use crate::id::{MemcgId, to_raw};
use crate::memcg::{Memcg, MemcgError, Memcgs, Resource, Usage};
use crate::sync::RawSpinLock;
use crate::table::SwapRecords;

/// The value for no limit.
const NO_LIMIT: u64 = u64::MAX;

const OFFLINE: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Saved {
    id: MemcgId,
    /// `None` for the root.
    parent: Option<MemcgId>,
    online: bool,
    /// The pages in memory of the cgroup itself.
    own: u64,
    /// The limits of memory, memsw and swap.
    limits: [u64; 3],
}

/// The order in which limits are set. A limit of memory is never above that of memsw, and no limit is the
/// highest.
const RESOURCES: [Resource; 3] = [Resource::Memory, Resource::Memsw, Resource::Swap];

/// A set of ids.
struct Ids(Vec<u64>);

impl Ids {
    fn new() -> Self {
        Self(std::vec![0; (usize::from(u16::MAX) + 1) / 64])
    }

    fn has(&self, id: MemcgId) -> bool {
        let id = usize::from(id.get());
        self.0[id / 64] >> (id % 64) & 1 != 0
    }

    /// Adds an id. Returns whether it was new.
    fn insert(&mut self, id: MemcgId) -> bool {
        let new = !self.has(id);
        self.0[usize::from(id.get()) / 64] |= 1 << (id.get() % 64);
        new
    }
}

/// Makes the section of a tree.
///
/// Looks at each cgroup once. A cgroup that is created during the call may be missing, with its children. One
/// that is freed during the call may be included. The result is always a tree: each parent comes before its children,
/// and is online if a child is.
pub(super) fn save<L: RawMutex>(memcgs: &Memcgs<L>) -> Result<Vec<u8>, ImageError> {
    let mut all = room::<Saved>(memcgs.ids_in_use() as usize)?;
    let mut there = Ids::new();
    let mut path = Vec::new();
    for memcg in memcgs {
        // Collect the ancestors that are not in the section yet.
        let mut up = Some(memcg);
        while let Some(memcg) = up.filter(|of| !there.has(of.id())) {
            path.push(memcg);
            up = match memcgs.parent(memcg) {
                Ok(parent) => parent,
                Err(_) => break,
            };
        }
        // Parents first. If a parent has been freed, its descendants have been freed as well.
        while let Some(memcg) = path.pop() {
            let Some(saved) = look_at(memcgs, memcg)? else {
                path.clear();
                break;
            };
            if saved.parent.is_some_and(|parent| !there.has(parent)) {
                path.clear();
                break;
            }
            there.insert(saved.id);
            all.push(saved);
        }
    }
    // An id may have belonged to an earlier cgroup when its child was looked at. That cgroup was online.
    let mut online = Ids::new();
    for saved in all.iter_mut().rev() {
        saved.online |= online.has(saved.id);
        if let Some(parent) = saved.parent.filter(|_| saved.online) {
            online.insert(parent);
        }
    }
    to_bytes(&all)
}

/// Returns `None` if the cgroup has been freed.
fn look_at<L: RawMutex>(memcgs: &Memcgs<L>, memcg: Memcg) -> Result<Option<Saved>, ImageError> {
    let seen = memcgs
        .usage(memcg)
        .and_then(|usage| Ok((usage, memcgs.parent(memcg)?)));
    let (usage, parent) = match seen {
        Ok(seen) => seen,
        Err(MemcgError::Gone { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let limits = limits_of(&usage).map(|limit| limit.unwrap_or(NO_LIMIT));
    Ok(Some(Saved {
        id: memcg.id(),
        parent: parent.map(Memcg::id),
        online: usage.online,
        own: usage.own,
        limits,
    }))
}

fn limits_of(usage: &Usage) -> [Option<u64>; 3] {
    [usage.memory_limit, usage.memsw_limit, usage.swap_limit]
}

fn to_bytes(all: &[Saved]) -> Result<Vec<u8>, ImageError> {
    let mut bytes = room(TREE_HEADER + all.len() * TREE_ENTRY)?;
    let nr = crate::cell::narrow(all.len());
    bytes.extend_from_slice(&nr.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    for saved in all {
        bytes.extend_from_slice(&saved.id.get().to_le_bytes());
        bytes.extend_from_slice(&to_raw(saved.parent).to_le_bytes());
        let flags = if saved.online { 0 } else { OFFLINE };
        bytes.extend_from_slice(&flags.to_le_bytes());
        for number in [saved.own].iter().chain(&saved.limits) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    Ok(bytes)
}

/// Parses a section that begins at `offset` in the file and is `len` bytes long without its padding.
fn parse(bytes: &[u8], offset: u64, len: u64) -> Result<Vec<Saved>, ImageError> {
    let wrong = |at: usize, problem| ImageError::Cgroup {
        offset: offset + at as u64,
        problem,
    };
    let nr = get_u32(bytes, 0) as usize;
    let expected = nr
        .checked_mul(TREE_ENTRY)
        .and_then(|all| all.checked_add(TREE_HEADER));
    if expected.map(|expected| expected as u64) != Some(len) || nr == 0 {
        return Err(ImageError::Field {
            offset,
            name: "number of cgroups",
            found: nr as u64,
            expected: len.saturating_sub(TREE_HEADER as u64) / TREE_ENTRY as u64,
        });
    }
    if get_u32(bytes, 4) != 0 {
        return Err(wrong(4, "follows reserved bytes that are not 0"));
    }
    let mut all = room::<Saved>(nr)?;
    let (mut there, mut offline) = (Ids::new(), Ids::new());
    for of in 0..nr {
        let at = TREE_HEADER + of * TREE_ENTRY;
        let number = |field: usize| get_u64(bytes, at + 8 * field);
        let ids = get_u32(bytes, at).to_le_bytes();
        let [id, parent] = [[ids[0], ids[1]], [ids[2], ids[3]]].map(u16::from_le_bytes);
        let flags = get_u32(bytes, at + 4);
        let saved = Saved {
            id: MemcgId::new(id).ok_or(wrong(at, "has the id 0"))?,
            parent: MemcgId::new(parent),
            online: flags & OFFLINE == 0,
            own: number(1),
            limits: [2, 3, 4].map(number),
        };
        let is_root = saved.id == MemcgId::MIN;
        if flags & !OFFLINE != 0 {
            return Err(wrong(
                at + 4,
                "is in a state that this version does not know",
            ));
        }
        if !there.insert(saved.id) {
            return Err(wrong(at, "comes twice"));
        }
        if is_root != (of == 0) || is_root != saved.parent.is_none() {
            return Err(wrong(
                at,
                "has no parent and is not the root, or is the root and is not the first",
            ));
        }
        if is_root && (!saved.online || saved.limits != [NO_LIMIT; 3]) {
            return Err(wrong(at, "is the root, and is offline or has limits"));
        }
        if let Some(parent) = saved.parent {
            if parent == saved.id || !there.has(parent) {
                return Err(wrong(at + 2, "comes before its parent"));
            }
            if saved.online && offline.has(parent) {
                return Err(wrong(at + 4, "is online, but its parent is offline"));
            }
        }
        if saved.limits[0] > saved.limits[1] {
            return Err(wrong(
                at + 16,
                "has a memory limit above its memory and swap limit",
            ));
        }
        if !saved.online {
            offline.insert(saved.id);
        }
        all.push(saved);
    }
    Ok(all)
}

/// A tree that was read from an image by [`Reader::tree`](super::Reader::tree).
#[derive(Debug)]
#[non_exhaustive]
pub struct Restored<L: RawMutex = RawSpinLock> {
    /// The tree, with its table.
    pub memcgs: Memcgs<L>,
    /// The limits that were raised because the charge exceeded them. Empty if the tree was not in use when it
    /// was written.
    pub raised: Vec<Raised>,
}

/// A limit that was raised: see [`Restored::raised`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Raised {
    /// The cgroup.
    pub id: MemcgId,
    /// The counter that the limit is for.
    pub resource: Resource,
    /// The limit in the image, in pages.
    pub saved: u64,
    /// The limit now, in pages: the charge.
    pub limit: u64,
}

/// Checks that [`restore`] can read this section.
pub(super) fn check(bytes: &[u8], offset: u64, len: u64) -> Result<(), ImageError> {
    parse(bytes, offset, len).map(|_| ())
}

/// Makes the tree of a section over its table.
pub(super) fn restore<L: RawMutex>(
    records: SwapRecords<L>,
    bytes: &[u8],
    offset: u64,
    len: u64,
) -> Result<Restored<L>, ImageError> {
    let all = parse(bytes, offset, len)?;
    let shape = all
        .iter()
        .filter_map(|saved| Some((saved.id, saved.parent?)));
    let pages = all.iter().map(|saved| (saved.id, saved.own));
    // All charges come before the first limit, and all charges of an offline cgroup before it goes offline.
    let memcgs = Memcgs::with_pages(records, shape, pages)?;
    let find = |id| {
        memcgs
            .find(id)
            .ok_or(MemcgError::UnknownParent { id, parent: id })
    };
    let mut raised = Vec::new();
    for saved in all.iter().filter(|saved| saved.limits != [NO_LIMIT; 3]) {
        let memcg = find(saved.id)?;
        let usage = memcgs.usage(memcg)?;
        let mut least = [usage.memory, usage.memsw, usage.swap_total];
        for (which, resource) in RESOURCES.into_iter().enumerate() {
            let asked = saved.limits[which];
            if asked == NO_LIMIT {
                continue;
            }
            let limit = asked.max(least[which]);
            if which == 0 {
                // The limit of memsw cannot be lower.
                least[1] = least[1].max(limit);
            }
            memcgs.set_limit(memcg, resource, Some(limit))?;
            if limit > asked {
                raised.push(Raised {
                    id: saved.id,
                    resource,
                    saved: asked,
                    limit,
                });
            }
        }
    }
    // Children first.
    for saved in all.iter().rev().filter(|saved| !saved.online) {
        let _ = memcgs.css_offline(find(saved.id)?, 0)?;
    }
    Ok(Restored { memcgs, raised })
}
