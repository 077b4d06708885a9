//! Makes operations from bytes. Each operation takes a few bytes of fixed meaning. So a changed byte changes
//! one operation, and those after it stay the same.

use arbitrary::{Arbitrary, Result, Unstructured};
use swap_records::{Backend, SwapEntry};

use swap_records_oracle::history::MOST_THREADS;
use swap_records_oracle::{
    BORDERS, CHUNK, CMPXCHG_OWNERS, CMPXCHG_SLOTS, Hint, IDS, MANY_BORDERS, MANY_PAGES, MOST_PAGES,
    Op, REGION, SHARED_SLOTS, SIZES, Slot, TYPES, backends,
};

/// Picks one of these by one byte.
fn pick<T: Copy>(u: &mut Unstructured, of: &[T]) -> Result<T> {
    Ok(of[usize::from(u8::arbitrary(u)?) % of.len()])
}

fn until_empty<T>(
    u: &mut Unstructured,
    most: usize,
    mut next: impl FnMut(&mut Unstructured) -> Result<T>,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    while !u.is_empty() && all.len() < most {
        all.push(next(u)?);
    }
    Ok(all)
}

/// Operations on the few slots of `cmpxchg`.
pub struct CmpxchgOps(pub Vec<Op>);

impl<'a> Arbitrary<'a> for CmpxchgOps {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        until_empty(u, 96, |u| {
            // Two bytes: the operation and its slot, and the owners.
            let [what, owners] = <[u8; 2]>::arbitrary(u)?;
            let slot = CMPXCHG_SLOTS[usize::from(what >> 4) % CMPXCHG_SLOTS.len()];
            let [old, new] = [owners, owners >> 4].map(|n| CMPXCHG_OWNERS[usize::from(n) % 4]);
            Ok(match what % 16 {
                0..5 if new > 0 => Op::Record(slot, new),
                0..7 => Op::Clear(slot),
                7..14 => Op::Cmpxchg(slot, old, new),
                14 => cmpxchg_batch(what >> 4, owners),
                _ => Op::Lookup(slot),
            })
        })
        .map(Self)
    }
}

/// The slots of the bits of a byte, from a first slot on, in a circle, once or twice.
fn cmpxchg_batch(how: u8, bits: u8) -> Op {
    let nr = CMPXCHG_SLOTS.len();
    let times = nr * usize::from(1 + how % 2);
    let from = usize::from(how >> 1);
    let slots = (from..from + times).map(|at| at % nr);
    let slots = slots.filter(|&at| bits >> at & 1 != 0);
    // If a slot occurs twice, its second owner differs from the first one.
    let id = |n: usize| CMPXCHG_OWNERS[1 + n % 3];
    match how % 3 {
        0 => Op::ClearBatch(slots.map(|at| CMPXCHG_SLOTS[at]).collect()),
        1 => Op::RecordBatch(slots.map(|at| CMPXCHG_SLOTS[at]).collect(), id(from)),
        _ => {
            let slots = slots.enumerate();
            Op::RecordBatchIds(slots.map(|(n, at)| (CMPXCHG_SLOTS[at], id(n))).collect())
        }
    }
}

/// Operations of all kinds on several types, and the lock and the backend of the table.
pub struct TableOps {
    pub parking_lot: bool,
    pub backend: Backend,
    pub ops: Vec<Op>,
}

impl<'a> Arbitrary<'a> for TableOps {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte = u8::arbitrary(u)?;
        let backends: Vec<_> = backends().collect();
        // The oracle handles each slot of a range by itself. In one input of four, a range may be longer than
        // a region.
        let mut slots_left = match byte >> 5 & 3 {
            0 => REGION + CHUNK,
            _ => CHUNK / 4,
        };
        let ops = until_empty(u, 48, |u| {
            let mut op = table_op(u)?;
            if let Op::RecordRange(_, nr, _) | Op::ClearRange(_, nr) = &mut op
                && *nr <= MOST_PAGES
            {
                *nr = (*nr).min(slots_left.max(20));
                slots_left = slots_left.saturating_sub(*nr);
            }
            Ok(op)
        })?;
        Ok(Self {
            parking_lot: byte & 0x80 != 0,
            backend: backends[usize::from(byte & 0x1f) % backends.len()],
            ops,
        })
    }
}

fn table_op(u: &mut Unstructured) -> Result<Op> {
    let what = u8::arbitrary(u)? % 64;
    Ok(match what {
        0..2 => Op::Swapon(pick(u, &TYPES)?, size(u)?),
        2 => Op::Swapoff(pick(u, &TYPES)?),
        3..13 => Op::Record(slot(u)?, pick(u, &IDS)?),
        13..16 => Op::Clear(slot(u)?),
        16..22 => Op::Cmpxchg(slot(u)?, owner(u)?, owner(u)?),
        22..24 => Op::Lookup(slot(u)?),
        24..32 => Op::RecordRange(slot(u)?, length(u)?, pick(u, &IDS)?),
        32..36 => Op::ClearRange(slot(u)?, length(u)?),
        36..38 => Op::Count(pick(u, &IDS)?),
        38 => Op::Runs(pick(u, &TYPES)?),
        39 => Op::RunsOf(pick(u, &IDS)?),
        40..44 => Op::Migrate(pick(u, &IDS)?, pick(u, &IDS)?),
        44..46 => Op::MigrateInSteps(pick(u, &IDS)?, pick(u, &IDS)?, budget(u)?),
        46..50 => {
            let [old, new] = [pick(u, &IDS)?, pick(u, &IDS)?];
            let (hint, threads) = hint(u)?;
            // One in two continues after a step.
            let budget = (what % 2 == 1).then(|| budget(u)).transpose()?;
            Op::MigrateWithHint(old, new, hint, threads, budget)
        }
        50..52 => Op::Begin(pick(u, &IDS)?, pick(u, &IDS)?),
        52..55 => Op::Step(budget(u)?),
        55 => max_hold(u)?,
        56 => Op::Walk(pick(u, &TYPES)?),
        57 => Op::WalkOf(pick(u, &IDS)?),
        58 => Op::Owners,
        59 => Op::RecordBatch(only_slots(batch(u)?), pick(u, &IDS)?),
        60 => Op::RecordBatchIds(batch(u)?),
        61 => Op::ClearBatch(only_slots(batch(u)?)),
        _ => Op::Next(u8::arbitrary(u)? % 8),
    })
}

/// A few slots, and copies of them some pages further on: at most 192.
fn batch(u: &mut Unstructured) -> Result<Vec<(Slot, u16)>> {
    let [nr, times, step] = <[u8; 3]>::arbitrary(u)?;
    let few = (0..1 + nr % 12).map(|_| Ok((slot(u)?, pick(u, &IDS)?)));
    let few = few.collect::<Result<Vec<_>>>()?;
    let copies = (0..1 + u64::from(times % 16)).flat_map(|time| {
        let by = time * u64::from(step % 3);
        let further = move |&((ty, offset), id): &(Slot, u16)| {
            let offset = offset.saturating_add(by).min(SwapEntry::MAX_OFFSET);
            ((ty, offset), id)
        };
        few.iter().map(further).collect::<Vec<_>>()
    });
    Ok(copies.collect())
}

fn only_slots(batch: Vec<(Slot, u16)>) -> Vec<Slot> {
    batch.into_iter().map(|(slot, _)| slot).collect()
}

/// An owner, or none in one case of eight.
fn owner(u: &mut Unstructured) -> Result<u16> {
    let byte = u8::arbitrary(u)?;
    Ok(if byte < 32 {
        0
    } else {
        IDS[usize::from(byte) % IDS.len()]
    })
}

/// A slot, usually near a border.
fn slot(u: &mut Unstructured) -> Result<Slot> {
    let [how, by] = <[u8; 2]>::arbitrary(u)?;
    let ty = TYPES[usize::from(how >> 6) % TYPES.len()];
    let near = |border: u64| (border + u64::from(by % 16)).saturating_sub(8);
    let offset = match how & 0x3f {
        how @ 0..56 => near(BORDERS[usize::from(how) % BORDERS.len()]),
        56..63 => u64::from(by) * MOST_PAGES / 255,
        _ => SwapEntry::MAX_OFFSET - u64::from(by % 2),
    };
    Ok((ty, offset))
}

fn length(u: &mut Unstructured) -> Result<u64> {
    let [how, by] = <[u8; 2]>::arbitrary(u)?;
    let by = u64::from(by);
    Ok(match how {
        0..192 => by % 20,
        192..224 => by * 32,
        // From near one border to near another one.
        224..254 => (BORDERS[usize::from(how) % BORDERS.len()] + by % 16).saturating_sub(8),
        _ => u64::MAX - by,
    })
}

fn size(u: &mut Unstructured) -> Result<u64> {
    let [how, by] = <[u8; 2]>::arbitrary(u)?;
    let by = u64::from(by);
    Ok(match how {
        0..128 => MOST_PAGES - by % 8,
        128..192 => 1 + by * 9,
        _ => SIZES[usize::from(how) % SIZES.len()],
    })
}

/// A budget in entries: none, odd numbers, and all.
fn budget(u: &mut Unstructured) -> Result<u64> {
    let byte = u8::arbitrary(u)?;
    Ok(match byte {
        0 => 0,
        255 => u64::MAX,
        _ => u64::from(byte) * 777 - 776,
    })
}

/// A hint, and the number of threads that may read it.
fn hint(u: &mut Unstructured) -> Result<(Hint, u8)> {
    let [how, by] = <[u8; 2]>::arbitrary(u)?;
    let by = u64::from(by);
    let hint = match how % 4 {
        0 => Hint::Right,
        1 => Hint::TooHigh(if by == 255 { u64::MAX } else { by }),
        2 => Hint::TooLow(if by == 255 { u64::MAX } else { by }),
        _ => Hint::Falling(by, u64::from(how >> 2 & 15)),
    };
    Ok((hint, how >> 6))
}

/// Migrations over so many regions that it pays to start threads.
pub struct ManyOps {
    /// Whether the whole table is checked in the end, which takes longer than the rest.
    pub validate: bool,
    pub ops: Vec<Op>,
}

impl<'a> Arbitrary<'a> for ManyOps {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let validate = u8::arbitrary(u)? % 16 == 0;
        let ops = until_empty(u, 24, many_op)?;
        Ok(Self { validate, ops })
    }
}

fn many_op(u: &mut Unstructured) -> Result<Op> {
    let what = u8::arbitrary(u)? % 32;
    Ok(match what {
        0..6 => {
            let region = MANY_BORDERS[usize::from(u8::arbitrary(u)?) % MANY_BORDERS.len()];
            let [by, stride, nr] = <[u8; 3]>::arbitrary(u)?;
            let first = region * REGION + u64::from(by % 4);
            // One or two records per region, or one in some of the regions, up to the end.
            let strides = [REGION, REGION / 2, REGION + 1, 3 * REGION, 64 * REGION];
            let stride = strides[usize::from(stride) % strides.len()];
            let most = (MANY_PAGES - first).div_ceil(stride);
            let nr = if nr < 128 { most.min(nr.into()) } else { most };
            let nr = nr.try_into().expect("at most two in a region");
            Op::RecordEvery((0, first), stride, nr, pick(u, &IDS)?)
        }
        6..9 => Op::Record(many_slot(u)?, pick(u, &IDS)?),
        9..11 => Op::Clear(many_slot(u)?),
        11..13 => Op::RecordRange(many_slot(u)?, 1 + length(u)? % 64, pick(u, &IDS)?),
        13 => Op::Count(pick(u, &IDS)?),
        14 => Op::RunsOf(pick(u, &IDS)?),
        15 => Op::Migrate(pick(u, &IDS)?, pick(u, &IDS)?),
        16..18 => Op::Begin(pick(u, &IDS)?, pick(u, &IDS)?),
        18..20 => Op::Step(budget(u)?),
        20 => max_hold(u)?,
        21 => Op::WalkOf(pick(u, &IDS)?),
        22..24 => Op::Next(u8::arbitrary(u)?),
        24 => Op::MigrateInSteps(pick(u, &IDS)?, pick(u, &IDS)?, budget(u)?),
        _ => {
            let [old, new] = [pick(u, &IDS)?, pick(u, &IDS)?];
            let (hint, threads) = hint(u)?;
            let budget = (what % 4 == 3).then(|| budget(u)).transpose()?;
            Op::MigrateWithHint(old, new, hint, 1 + threads, budget)
        }
    })
}

/// A whole number of chunks, more than a region has, or none.
fn max_hold(u: &mut Unstructured) -> Result<Op> {
    Ok(Op::MaxHold(u64::from(u8::arbitrary(u)? % 18) * CHUNK))
}

/// A slot near the border of a region.
fn many_slot(u: &mut Unstructured) -> Result<Slot> {
    let [region, by] = <[u8; 2]>::arbitrary(u)?;
    let ty = region >> 7;
    let border = match ty {
        0 => MANY_BORDERS[usize::from(region) % MANY_BORDERS.len()],
        _ => u64::from(region % 4),
    };
    let offset = (border * REGION + u64::from(by % 16)).saturating_sub(8);
    Ok((ty, offset))
}

/// A list of operations on the shared slots for each of two or three threads.
pub struct ThreadOps {
    pub parking_lot: bool,
    pub lists: Vec<Vec<Op>>,
}

impl<'a> Arbitrary<'a> for ThreadOps {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte = u8::arbitrary(u)?;
        let threads = MOST_THREADS - usize::from(byte & 1);
        let all = until_empty(u, 12 * threads, thread_op)?;
        // The threads take operations one after another, so one more byte at the end is one more operation of
        // one thread.
        let list = |thread| all.iter().skip(thread).step_by(threads).cloned();
        Ok(Self {
            parking_lot: byte & 0x80 != 0,
            lists: (0..threads).map(|thread| list(thread).collect()).collect(),
        })
    }
}

fn thread_op(u: &mut Unstructured) -> Result<Op> {
    let [what, place, owners] = <[u8; 3]>::arbitrary(u)?;
    let offset = SHARED_SLOTS.start + u64::from(place) % 6;
    let nr = 1 + u64::from(place >> 4) % (SHARED_SLOTS.end - offset);
    let slot = (0, offset);
    // Three ids and no owner. Ids 1 and 4097 share a counter.
    let [old, new] = [owners, owners >> 4].map(|n| CMPXCHG_OWNERS[usize::from(n) % 4]);
    Ok(match what % 32 {
        0..6 if new > 0 => Op::Record(slot, new),
        0..8 => Op::Clear(slot),
        8..17 => Op::Cmpxchg(slot, old, new),
        17..20 => Op::Lookup(slot),
        20..24 if new > 0 => Op::RecordRange(slot, nr, new),
        20..26 => Op::ClearRange(slot, nr),
        26..29 if old > 0 && new > 0 => Op::Migrate(old, new),
        29 if old > 0 => Op::Count(old),
        30 => thread_batch(place, owners),
        _ => Op::Runs(0),
    })
}

/// The shared slots of the bits of a byte, forwards or backwards.
fn thread_batch(bits: u8, owners: u8) -> Op {
    let slots = SHARED_SLOTS.enumerate();
    let slots = slots.filter(|&(n, _)| bits >> n & 1 != 0);
    let mut slots: Vec<_> = slots.map(|(_, offset)| (0, offset)).collect();
    if bits >> 7 != 0 {
        slots.reverse();
    }
    let id = |n: usize| CMPXCHG_OWNERS[1 + (usize::from(owners >> 4) + n) % 3];
    match owners % 3 {
        0 => Op::ClearBatch(slots),
        1 => Op::RecordBatch(slots, id(0)),
        _ => {
            let slots = slots.into_iter().enumerate();
            Op::RecordBatchIds(slots.map(|(n, slot)| (slot, id(n))).collect())
        }
    }
}
