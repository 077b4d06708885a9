//! Calls every operation of a table, so that the program's text contains the whole table. `ci/no_std.sh`
//! prints the size of the text, and compares it with a limit.

#![no_std]
#![no_main]

use core::hint::black_box;

use swap_records::{
    Backend, EntryError, Exchange, MemcgId, Step, SwapEntry, SwapRecords, SwapType, SwaponError,
};
use swap_records_freestanding::{Bump, check, exit};

#[global_allocator]
static MEMORY: Bump = Bump::new();

static RECORDS: SwapRecords = SwapRecords::new();

/// Pages of the swapfile: two regions, and a part of a third one.
const PAGES: u64 = 70_000;

#[inline(never)]
fn id(id: u16) -> MemcgId {
    MemcgId::new(black_box(id)).unwrap_or_else(|| exit(3))
}

#[inline(never)]
fn entry(offset: u64) -> SwapEntry {
    let ty = SwapType::new(black_box(0)).unwrap_or_else(|| exit(4));
    SwapEntry::new(ty, black_box(offset)).unwrap_or_else(|| exit(5))
}

fn ok<T, E>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|_| exit(6))
}

#[inline(never)]
fn types(records: &SwapRecords, ty: SwapType) {
    check(records.lookup(entry(0)).is_none(), 10);
    ok(records.swapon(ty, black_box(PAGES)));
    check(
        records.swapon(ty, black_box(PAGES)) == Err(SwaponError::TypeOn { ty }),
        11,
    );
    check(records.max_pages(ty) == Some(PAGES), 12);
    check(records.backend().is_available(), 13);
}

#[inline(never)]
fn slots(records: &SwapRecords, (a, b): (MemcgId, MemcgId)) {
    check(ok(records.record(entry(1), a)).is_none(), 20);
    check(ok(records.record(entry(1), b)) == Some(a), 21);
    let mismatch = ok(records.cmpxchg(entry(1), Some(a), None));
    check(mismatch == Exchange::Mismatch(Some(b)), 22);
    let stored = ok(records.cmpxchg(entry(1), Some(b), Some(a)));
    check(stored == Exchange::Stored, 23);
    check(records.lookup(entry(1)) == Some(a), 24);
    check(ok(records.clear(entry(1))) == Some(a), 25);
    let outside = records.record(entry(PAGES), a);
    check(matches!(outside, Err(EntryError::OutOfRange { .. })), 26);
}

#[inline(never)]
fn ranges(records: &SwapRecords, (a, shared): (MemcgId, MemcgId)) {
    let mut slots = 0;
    check(
        ok(records.record_range(entry(100), 40_000, a)).is_empty(),
        30,
    );
    let with = records.record_range_with(entry(90), 20, shared, |run| slots += run.len);
    ok(with);
    check(slots == 10, 31);
    let had = ok(records.clear_range(entry(40_000), 1000));
    check(had.into_iter().map(|run| run.len).sum::<u64>() == 100, 32);
    ok(records.clear_range_with(entry(0), 95, |run| slots += run.len));
    check(slots == 15, 33);
}

#[inline(never)]
fn batches(records: &SwapRecords, [a, b, shared]: [MemcgId; 3]) {
    let batch = [entry(60_000), entry(1), entry(33_000)];
    let with_ids = [(batch[0], a), (batch[1], shared)];
    let mut told = 0;
    ok(records.record_batch(&batch, b, |_, _| told += 1));
    ok(records.record_batch_ids(&with_ids, |_, _| told += 1));
    ok(records.clear_batch(&batch[2..], |_, _| told += 1));
    check(told == 4, 40);
}

#[inline(never)]
fn numbers(records: &SwapRecords, ty: SwapType, [a, b, shared]: [MemcgId; 3]) {
    check(records.count(shared) == 16, 50);
    check(records.count_on(ty, b) == 0, 51);
    let bounds = (
        records.count_upper_bound(a),
        records.count_upper_bound_on(ty, b),
    );
    check(bounds.0 > bounds.1, 52);
    check(records.owners().count() == 2, 53);
    check(records.owners_on(ty).count() == 2, 54);
    check(records.runs(ty).count() == 5, 55);
    check(records.runs_of(shared).count() == 2, 56);
    let reserved = (
        records.footprint().total(),
        records.footprint_on(ty).total(),
    );
    check(reserved.0 == reserved.1, 57);
}

#[inline(never)]
fn migrations(records: &SwapRecords, [a, b, shared]: [MemcgId; 3]) -> u64 {
    let mut steps = records.migration(a, b).memsw_hint(&u64::MAX);
    while steps.step(black_box(1)) == Step::More {}
    let moved = steps.so_far().moved;
    check(records.count(b) == moved && records.count(a) == 0, 60);
    check(records.migrate(b, a) == moved, 61);
    check(records.migration(shared, a).run().moved == 16, 62);
    moved + 16
}

#[unsafe(no_mangle)]
fn run() -> u8 {
    let records = black_box(&RECORDS);
    let ty = entry(0).swap_type();
    let ids @ [a, b, shared] = [7, 8, 4096 + 7].map(id);
    types(records, ty);
    slots(records, (a, b));
    ranges(records, (a, shared));
    batches(records, ids);
    numbers(records, ty, ids);
    let all = migrations(records, ids);
    check(records.swapoff(ty) == Ok(all), 70);
    check(records.record(entry(1), a).is_err(), 71);

    // The backend is chosen at run time, so that the program contains all backends.
    for &backend in black_box(Backend::ALL) {
        let table: SwapRecords = SwapRecords::new().with_backend(black_box(backend));
        ok(table.swapon(ty, 1));
        ok(table.record(entry(0), a));
        check(table.migrate(a, b) == 1, 72);
    }
    0
}
