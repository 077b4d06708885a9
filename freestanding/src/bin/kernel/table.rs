//! Does the operations of a table on the table and on the oracle, also with each allocation refused, one
//! after another.

mod op;

use alloc::string::String;

use swap_records::{
    Backend, CHUNK_ENTRIES, EntryError, Exchange, MemcgId, REGION_ENTRIES, Step, SwapEntry,
    SwapRecords, SwaponError,
};

use crate::machine::{IrqLock, check, check_unlocked, fail};
use crate::memory::{PAGES, without};
use crate::model::{CHUNK, IDS, MOST_PAGES, Model, Numbers, REGION, TYPES, entry};
use crate::sequence::{OutOfMemory, Subject};
use op::{BATCH, Op, Slots};

type Table = SwapRecords<IrqLock>;

/// Returns what the table must say about these slots: that they exist, or what is wrong with them.
fn expected(model: &Model, (start, nr): Slots) -> Result<(), EntryError> {
    let (ty, offset) = (start.swap_type(), start.offset());
    match model.pages(ty) {
        None => Err(EntryError::TypeOff {
            ty,
            offset: Some(offset),
        }),
        Some(max_pages) if offset >= max_pages || nr > max_pages - offset => {
            Err(EntryError::OutOfRange {
                start,
                nr,
                max_pages,
            })
        }
        Some(_) => Ok(()),
    }
}

/// Returns the result of an operation. `None`: the slots do not exist, and the operation was refused.
#[track_caller]
fn settle<T>(
    model: &Model,
    slots: Slots,
    done: Result<T, EntryError>,
) -> Result<Option<T>, OutOfMemory> {
    match (done, expected(model, slots)) {
        (Err(EntryError::OutOfMemory { start, nr, bytes }), Ok(())) => {
            check(
                (start, nr) == slots && bytes > 0,
                "OutOfMemory names other slots",
            );
            Err(OutOfMemory)
        }
        (Err(error), expected) => {
            check(
                expected == Err(error),
                "an operation is refused for another reason",
            );
            Ok(None)
        }
        (Ok(done), expected) => {
            check(
                expected.is_ok(),
                "an operation on slots that are not there is done",
            );
            Ok(Some(done))
        }
    }
}

/// Returns the slots of a batch. Some of them repeat. In a few batches, one slot does not exist.
fn batch(model: &Model, seed: u64) -> ([SwapEntry; BATCH], Result<(), EntryError>) {
    let mut numbers = Numbers::new(seed);
    let strays = numbers.below(8) == 0;
    let near = numbers.offset();
    let slots = [(); BATCH].map(|()| {
        let ty = TYPES[usize::from(numbers.below(5) == 0)];
        let offset = match numbers.below(3) {
            0 => numbers.offset(),
            _ => near + numbers.below(40),
        };
        if strays {
            return entry(ty, offset);
        }
        let other = TYPES[usize::from(ty == TYPES[0])];
        let mut on = [ty, other].into_iter();
        let on = on.find_map(|ty| Some((ty, model.pages(ty)?)));
        on.map_or(entry(ty, offset), |(ty, pages)| entry(ty, offset % pages))
    });
    let mut all = slots.iter().map(|&slot| expected(model, (slot, 1)));
    let all = all.find(Result::is_err).unwrap_or(Ok(()));
    (slots, all)
}

/// [`settle`] for a batch.
#[track_caller]
fn settle_batch(
    done: Result<(), EntryError>,
    expected: Result<(), EntryError>,
) -> Result<bool, OutOfMemory> {
    match done {
        Err(EntryError::OutOfMemory { bytes, .. }) if expected.is_ok() => {
            check(bytes > 0, "OutOfMemory of no bytes");
            Err(OutOfMemory)
        }
        done => {
            check(done == expected, "a batch does other than it should");
            Ok(done.is_ok())
        }
    }
}

/// What the callback of a batch must be told: each slot that had an owner, in the order of the batch.
struct Told {
    /// The previous owner of each slot.
    before: [Option<MemcgId>; BATCH],
    slots: [SwapEntry; BATCH],
    next: usize,
}

impl Told {
    fn new(model: &Model, slots: [SwapEntry; BATCH], ids: &[Option<MemcgId>; BATCH]) -> Self {
        let mut before = slots.map(|slot| model.get(slot));
        // A slot that repeats has the owner that the batch gave it.
        for at in 1..BATCH {
            let earlier = slots[..at].iter().rposition(|&slot| slot == slots[at]);
            if let Some(earlier) = earlier {
                before[at] = ids[earlier];
            }
        }
        Self {
            before,
            slots,
            next: 0,
        }
    }

    fn tell(&mut self, slot: SwapEntry, owner: MemcgId) {
        check_unlocked("a callback is called under a lock");
        let mut rest = self.next..BATCH;
        let at = rest.find(|&at| self.before[at].is_some());
        let at = at.unwrap_or_else(|| fail("a batch tells of too many owners"));
        check(
            (self.slots[at], self.before[at]) == (slot, Some(owner)),
            "a batch tells of another owner",
        );
        self.next = at + 1;
    }

    /// Checks that the callback was told about all of them.
    fn end(self) {
        let rest = &self.before[self.next..];
        check(
            rest.iter().all(Option::is_none),
            "a batch tells of too few owners",
        );
    }
}

/// Does the operation on both, and compares the results.
fn apply(op: Op, table: &mut Table, model: &mut Model) -> Result<(), OutOfMemory> {
    match op {
        Op::Swapon(ty, pages) => match table.swapon(ty, pages) {
            Ok(()) => {
                check(model.pages(ty).is_none(), "a type is turned on twice");
                check((1..=MOST_PAGES).contains(&pages), "a size is not refused");
                model.turn_on(ty, pages);
            }
            Err(SwaponError::OutOfMemory {
                ty: of,
                max_pages,
                bytes,
            }) => {
                check(
                    (of, max_pages) == (ty, pages) && bytes > 0,
                    "OutOfMemory of another",
                );
                check(
                    model.pages(ty).is_none(),
                    "there is memory enough for a type that is on",
                );
                return Err(OutOfMemory);
            }
            Err(SwaponError::TypeOn { .. }) => {
                check(
                    model.pages(ty).is_some(),
                    "a type that is off is said to be on",
                );
            }
            Err(SwaponError::NoPages { .. }) => check(pages == 0, "pages are said to be none"),
            Err(SwaponError::TooLarge { .. }) => {
                check(pages > MOST_PAGES, "TooLarge of a size that is not")
            }
            Err(_) => fail("a swapon is refused for another reason"),
        },
        Op::Swapoff(ty) => match table.swapoff(ty) {
            Ok(records) => {
                check(model.pages(ty).is_some(), "a type is turned off twice");
                check(records == model.records(ty), "swapoff gives another number");
                model.turn_off(ty);
            }
            Err(error) => {
                let off = EntryError::TypeOff { ty, offset: None };
                check(
                    error == off && model.pages(ty).is_none(),
                    "swapoff is refused",
                );
            }
        },
        Op::Trim => {
            let out = PAGES.nr_out();
            let given = table.trim_pages();
            check(
                PAGES.nr_out() == out - given,
                "trim_pages gives another number",
            );
            let any_on = TYPES.iter().any(|&ty| model.pages(ty).is_some());
            check(
                any_on || PAGES.nr_out() == 0,
                "a table that is off keeps pages after a trim",
            );
        }
        Op::Reserve(slots) => {
            let done = table.reserve(slots.0, slots.1);
            if let Some(()) = settle(model, slots, done)? {
                // For any ids.
                for (skip, id) in (0..slots.1).step_by(CHUNK_ENTRIES / 2).zip(IDS) {
                    let slot = entry(slots.0.swap_type(), slots.0.offset() + skip);
                    let before = without(|| table.record(slot, id));
                    check(
                        before == Ok(model.set(slot, Some(id))),
                        "a slot that is reserved is refused",
                    );
                }
            }
        }
        Op::Record(slot, id) => {
            if let Some(before) = settle(model, (slot, 1), table.record(slot, id))? {
                check(
                    model.set(slot, Some(id)) == before,
                    "record gives another owner",
                );
            }
        }
        Op::Clear(slot) => {
            if let Some(before) = settle(model, (slot, 1), table.clear(slot))? {
                check(model.set(slot, None) == before, "clear gives another owner");
            }
        }
        Op::Cmpxchg(slot, old, new) => {
            match settle(model, (slot, 1), table.cmpxchg(slot, old, new))? {
                Some(Exchange::Stored) => {
                    check(
                        model.set(slot, new) == old,
                        "cmpxchg stores over another owner",
                    );
                }
                Some(Exchange::Mismatch(owner)) => {
                    check(
                        owner == model.get(slot) && owner != old,
                        "cmpxchg finds another owner",
                    );
                }
                None => {}
            }
        }
        Op::RecordRange(slots, id) => {
            if let Some(runs) = settle(model, slots, table.record_range(slots.0, slots.1, id))? {
                let end = slots.0.offset() + slots.1;
                let had = model.runs(slots.0.swap_type(), slots.0.offset()..end);
                check(
                    had.eq(runs.iter().copied()),
                    "record_range gives other owners",
                );
                model.fill(slots.0, slots.1, Some(id));
            }
        }
        Op::ClearRange(slots) => {
            if let Some(runs) = settle(model, slots, table.clear_range(slots.0, slots.1))? {
                let end = slots.0.offset() + slots.1;
                let had = model.runs(slots.0.swap_type(), slots.0.offset()..end);
                check(
                    had.eq(runs.iter().copied()),
                    "clear_range gives other owners",
                );
                model.fill(slots.0, slots.1, None);
            }
        }
        Op::RecordRangeWith(slots, _) | Op::ClearRangeWith(slots) => {
            let (start, nr) = slots;
            let mut had = model.runs(start.swap_type(), start.offset()..start.offset() + nr);
            let told = |run| {
                check_unlocked("a callback is called under a lock");
                check(had.next() == Some(run), "a range tells of other owners");
            };
            let (done, id) = match op {
                Op::RecordRangeWith(_, id) => {
                    (table.record_range_with(start, nr, id, told), Some(id))
                }
                _ => (table.clear_range_with(start, nr, told), None),
            };
            let done = settle(model, slots, done)?;
            if done.is_some() {
                check(had.next().is_none(), "a range tells of too few owners");
                drop(had);
                model.fill(start, nr, id);
            }
        }
        Op::RecordBatch(seed, _) | Op::RecordBatchIds(seed) | Op::ClearBatch(seed) => {
            let (slots, expected) = batch(model, seed);
            let mut numbers = Numbers::new(seed ^ 1);
            let ids: [Option<MemcgId>; BATCH] = match op {
                Op::RecordBatch(_, id) => [Some(id); BATCH],
                Op::RecordBatchIds(_) => [(); BATCH].map(|()| Some(numbers.one_of(IDS))),
                _ => [None; BATCH],
            };
            let mut told = Told::new(model, slots, &ids);
            let each = |slot, owner| told.tell(slot, owner);
            let done = match op {
                Op::RecordBatch(_, id) => table.record_batch(&slots, id, each),
                Op::RecordBatchIds(_) => {
                    let mut at = 0;
                    let with_ids = slots.map(|slot| {
                        at += 1;
                        (slot, ids[at - 1].unwrap_or(IDS[0]))
                    });
                    table.record_batch_ids(&with_ids, each)
                }
                _ => table.clear_batch(&slots, each),
            };
            if settle_batch(done, expected)? {
                told.end();
                for (slot, id) in slots.into_iter().zip(ids) {
                    model.set(slot, id);
                }
            }
        }
        Op::Lookup(slot) => check(
            table.lookup(slot) == model.get(slot),
            "lookup gives another owner",
        ),
        Op::Count(id) => {
            let all = model.count(id);
            check(table.count(id) == all, "count gives another number");
            check(
                table.count_upper_bound(id) >= all,
                "the upper bound is too low",
            );
            for ty in TYPES {
                let on = model.count_on(ty, id);
                check(
                    table.count_on(ty, id) == on,
                    "count_on gives another number",
                );
                check(
                    table.count_upper_bound_on(ty, id) >= on,
                    "the upper bound is too low",
                );
                check(
                    table.max_pages(ty) == model.pages(ty),
                    "max_pages gives another number",
                );
            }
        }
        Op::Owners => {
            let all = IDS.map(|id| (id, model.count(id))).into_iter();
            check(
                table.owners().eq(all.filter(|&(_, records)| records > 0)),
                "owners are others",
            );
            for ty in TYPES {
                let all = IDS.map(|id| (id, model.count_on(ty, id))).into_iter();
                check(
                    table
                        .owners_on(ty)
                        .eq(all.filter(|&(_, records)| records > 0)),
                    "owners of a type are others",
                );
            }
        }
        Op::Runs => check_all(table, model),
        Op::RunsOf(id) => {
            let runs = model.all_runs().filter(|run| run.id == id);
            check(table.runs_of(id).eq(runs), "runs_of gives other runs");
        }
        Op::Footprint => {
            let of_types = TYPES.map(|ty| table.footprint_on(ty).total().resident);
            check(
                table.footprint().total().resident == of_types[0] + of_types[1],
                "footprint is not that of its types",
            );
            check(
                table.backend() == Backend::detect(),
                "the backend is another",
            );
        }
        Op::Migrate(old, new) => {
            let moved = table.migrate(old, new);
            check(
                moved == model.migrate(old, new),
                "migrate gives another number",
            );
        }
        Op::MigrateInSteps(old, new, budget, most) => {
            let mut migration = table.migration(old, new).max_hold(most);
            while migration.step(budget) == Step::More {
                check_unlocked("a step ends under a lock");
            }
            let done = migration.so_far();
            let most = most.clamp(CHUNK_ENTRIES, REGION_ENTRIES) as u64;
            check(done.longest_hold <= most, "a hold is longer than it may be");
            check(
                done.moved == model.migrate(old, new),
                "a migration gives another number",
            );
        }
        Op::MigrateWithHint(old, new) => {
            let hint = model.count(old);
            let done = table.migration(old, new).memsw_hint(&hint).run();
            check(
                done.moved == model.migrate(old, new),
                "a migration gives another number",
            );
        }
    }
    Ok(())
}

/// Compares all slots, and the runs.
fn check_all(table: &Table, model: &Model) {
    for ty in TYPES {
        let runs = model.runs(ty, 0..MOST_PAGES);
        check(table.runs(ty).eq(runs), "runs are others");
        for offset in 0..model.pages(ty).map_or(1, |pages| pages + 1) {
            let slot = entry(ty, offset);
            check(
                table.lookup(slot) == model.get(slot),
                "a slot has another owner",
            );
        }
    }
}

/// A table and its oracle.
pub(crate) struct Both {
    table: Table,
    model: Model,
    numbers: Numbers,
}

impl Subject for Both {
    type Op = Op;

    fn new(seed: u64) -> Self {
        Self {
            table: Table::with_raw_mutex().with_page_source(&PAGES),
            model: Model::new(),
            numbers: Numbers::new(seed),
        }
    }

    fn op(&mut self, nr: u64, operations: u64) -> Op {
        match (nr, operations - nr) {
            (0, _) => Op::Swapon(TYPES[0], MOST_PAGES),
            (1, _) => Op::Swapon(TYPES[1], MOST_PAGES),
            (_, 3) => Op::Swapoff(TYPES[0]),
            (_, 2) => Op::Swapoff(TYPES[1]),
            (_, 1) => Op::Trim,
            _ => Op::any(&mut self.numbers),
        }
    }

    fn may_demand(op: Op) -> bool {
        op.may_demand()
    }

    fn apply(&mut self, op: Op) -> Result<(), OutOfMemory> {
        apply(op, &mut self.table, &mut self.model)
    }

    fn check_all(&self) {
        check_all(&self.table, &self.model);
    }

    fn validate(&self) -> Result<(), String> {
        self.table.validate()
    }
}

/// A static is never dropped. So it gives its pages back after a grace period.
pub(crate) fn gives_back_pages_of_a_static() {
    static RECORDS: Table = Table::with_raw_mutex().with_page_source(&PAGES);
    let ty = TYPES[0];
    check(
        RECORDS.swapon(ty, MOST_PAGES) == Ok(()),
        "a swapon is refused",
    );
    let recorded = RECORDS.record_range_with(entry(ty, 5), REGION, IDS[0], |_| ());
    check(recorded == Ok(()), "a record is refused");
    check(
        RECORDS.swapoff(ty) == Ok(REGION),
        "swapoff gives another number",
    );
    let out = PAGES.nr_out();
    check(out > REGION / CHUNK, "a swapfile in use has no pages");
    // SAFETY: no other operation is under way on the only processor.
    let given = unsafe { RECORDS.begin_trim().finish() };
    check(
        given == out && PAGES.nr_out() == 0,
        "pages of a static are not back",
    );
}
