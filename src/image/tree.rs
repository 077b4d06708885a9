//! The cgroups of a tree, as a section of an image.
//!
//! Eight bytes that say how many there are, then [`TREE_ENTRY`] bytes for each, parents first. What is not written is
//! what follows from the rest: records are those of the table, and the counters are sums.

use std::vec::Vec;

use lock_api::RawMutex;

use super::error::ImageError;
use super::format::{TREE_ENTRY, TREE_HEADER, get_u32, get_u64};
use super::room;
use crate::id::{MemcgId, to_raw};
use crate::memcg::{Memcg, MemcgError, Memcgs, Resource, Usage};
use crate::sync::RawSpinLock;
use crate::table::SwapRecords;

/// What stands for no limit.
const NO_LIMIT: u64 = u64::MAX;

const OFFLINE: u32 = 1;

/// One cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Saved {
    id: MemcgId,
    /// `None` of the root.
    parent: Option<MemcgId>,
    online: bool,
    /// Its own pages in memory.
    own: u64,
    /// Of memory, memsw and swap.
    limits: [u64; 3],
}

/// In the order in which they are set: a limit of memory is never above that of memsw, and no limit is the highest one.
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

    /// Says whether it was new.
    fn insert(&mut self, id: MemcgId) -> bool {
        let new = !self.has(id);
        self.0[usize::from(id.get()) / 64] |= 1 << (id.get() % 64);
        new
    }
}

/// The section of this tree.
///
/// Each cgroup is looked at once. One that comes meanwhile may be left out, with its children; one that goes may be in it.
/// What is in it is a tree all the same: parents are in it, before their children, and are online where a child is.
pub(super) fn save<L: RawMutex>(memcgs: &Memcgs<L>) -> Result<Vec<u8>, ImageError> {
    let mut all = room::<Saved>(memcgs.ids_in_use() as usize)?;
    let mut there = Ids::new();
    let mut path = Vec::new();
    for memcg in memcgs {
        // From here up to one that is in it already.
        let mut up = Some(memcg);
        while let Some(memcg) = up.filter(|of| !there.has(of.id())) {
            path.push(memcg);
            up = match memcgs.parent(memcg) {
                Ok(parent) => parent,
                Err(_) => break,
            };
        }
        // Parents first. Where one has gone, those below it have as well.
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
    // An id may have been another cgroup's when its child was looked at: that one was online.
    let mut online = Ids::new();
    for saved in all.iter_mut().rev() {
        saved.online |= online.has(saved.id);
        if let Some(parent) = saved.parent.filter(|_| saved.online) {
            online.insert(parent);
        }
    }
    to_bytes(&all)
}

/// `None` where it has gone.
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

/// The cgroups of a section that begins at `offset` of the file, and is `len` bytes long without what fills it up.
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
        return Err(wrong(
            4,
            "follows bytes that are kept for later versions and not 0",
        ));
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
            return Err(wrong(at, "comes a second time"));
        }
        if is_root != (of == 0) || is_root != saved.parent.is_none() {
            return Err(wrong(
                at,
                "is the root, or has no parent, and is not the first",
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
                return Err(wrong(at + 4, "is online, and its parent is offline"));
            }
        }
        if saved.limits[0] > saved.limits[1] {
            return Err(wrong(
                at + 16,
                "has a higher limit of memory than of memory and swap",
            ));
        }
        if !saved.online {
            offline.insert(saved.id);
        }
        all.push(saved);
    }
    Ok(all)
}

/// A tree that was made again from an image: [`Reader::tree`](super::Reader::tree).
#[derive(Debug)]
#[non_exhaustive]
pub struct Restored<L: RawMutex = RawSpinLock> {
    /// The tree, with its table.
    pub memcgs: Memcgs<L>,
    /// Limits that are higher than they were, since more was charged. None, if nobody worked in the tree when it was
    /// written.
    pub raised: Vec<Raised>,
}

/// A limit that is higher than it was: see [`Restored::raised`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Raised {
    /// The cgroup.
    pub id: MemcgId,
    /// Of which counter.
    pub resource: Resource,
    /// The limit in pages that the image has.
    pub saved: u64,
    /// The limit in pages that it has now: what is charged.
    pub limit: u64,
}

/// Whether this is a section that [`restore`] takes.
pub(super) fn check(bytes: &[u8], offset: u64, len: u64) -> Result<(), ImageError> {
    parse(bytes, offset, len).map(|_| ())
}

/// The tree of this section over its table.
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
    // All that is charged comes before the first limit, and all that an offline cgroup has before it goes offline.
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
                // Memsw has no lower one.
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
