//! The small types as texts and numbers: both directions, and values that are refused.

use std::collections::HashSet;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::str::FromStr;

use swap_records::memcg::{Memcg, MemcgError, Resource, Usage};
use swap_records::{
    Backend, EntryError, Exchange, MemcgId, Migrated, Number, ParseError, RangeError, RawSpinLock,
    Run, Runs, Step, SwapEntry, SwapRecords, SwapType, SwaponError,
};

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn entry(ty: u8, offset: u64) -> SwapEntry {
    SwapEntry::new(SwapType::new(ty).unwrap(), offset).unwrap()
}

fn comes_back<T: FromStr<Err = ParseError> + Display + Debug + Eq>(value: T) {
    assert_eq!(value.to_string().parse(), Ok(value));
}

#[test]
fn texts_are_read_back() {
    SwapType::all().for_each(comes_back);
    let ids = [1, 2, 9, 10, 4711, 65534, 65535].map(id);
    ids.into_iter().for_each(comes_back);
    for ty in [0, 3, 31] {
        for offset in [0, 1, 4711, SwapEntry::MAX_OFFSET] {
            comes_back(entry(ty, offset));
        }
    }
    Backend::ALL.iter().copied().for_each(comes_back);
    assert_eq!("007".parse(), Ok(id(7)));
}

fn refused<T: FromStr<Err = ParseError> + Debug>(text: &str, error: ParseError, says: &str) {
    let said = text.parse::<T>().unwrap_err();
    assert_eq!(said, error, "{text:?}");
    assert_eq!(said.to_string(), says, "{text:?}");
    let _: &dyn Error = &said;
}

#[test]
fn a_text_that_cannot_be_read_is_refused_with_what_where_and_what_to_do() {
    use Number::{Offset, SwapType as Type};
    let nan = |number, at| ParseError::NotANumber { number, at };
    let out = |number, at| ParseError::OutOfRange { number, at };
    for (text, at) in [
        ("", 0),
        ("x", 0),
        ("-1", 0),
        ("+7", 0),
        (" 7", 0),
        ("7 ", 1),
        ("7\u{661}", 1),
        ("0x7", 1),
    ] {
        refused::<MemcgId>(
            text,
            nan(Number::MemcgId, at),
            &format!("byte {at} is not a digit of the cgroup id: write decimal digits only"),
        );
    }
    for text in [
        "0",
        "000",
        "65536",
        "18446744073709551616",
        "99999999999999999999999999",
    ] {
        let says = "the cgroup id at byte 0 is out of range: use 1 to 65535";
        refused::<MemcgId>(text, out(Number::MemcgId, 0), says);
    }
    for text in ["32", "256", "18446744073709551616"] {
        let says = "the swap type at byte 0 is out of range: use 0 to 31";
        refused::<SwapType>(text, out(Type, 0), says);
        refused::<SwapEntry>(&format!("{text}:1"), out(Type, 0), says);
    }
    let says = "byte 1 is not a digit of the swap type: write decimal digits only";
    refused::<SwapType>("3:4711", nan(Type, 1), says);

    let says = "the swap entry has no colon: write its type, a colon and its offset, as in 3:4711";
    refused::<SwapEntry>("", ParseError::NoColon, says);
    refused::<SwapEntry>("34711", ParseError::NoColon, says);
    for (text, number, at) in [
        (":", Type, 0),
        ("3:", Offset, 2),
        ("31:4:5", Offset, 4),
        ("a:5", Type, 0),
        ("3: 5", Offset, 2),
    ] {
        let says = format!("byte {at} is not a digit of the {number}: write decimal digits only");
        refused::<SwapEntry>(text, nan(number, at), &says);
    }
    for offset in [SwapEntry::MAX_OFFSET + 1, u64::MAX] {
        let says = "the swap offset at byte 3 is out of range: use 0 to 1125899906842623";
        refused::<SwapEntry>(&format!("31:{offset}"), out(Offset, 3), says);
    }
    for text in ["", "AVX2", "avx512", "sse2"] {
        let says = "no backend has this name: use scalar, words, wide, avx2 or avx512bw";
        refused::<Backend>(text, ParseError::NoBackend, says);
    }
}

#[test]
fn numbers_become_types_and_types_numbers_where_they_fit() {
    for ty in SwapType::all() {
        assert_eq!(SwapType::try_from(u8::from(ty)), Ok(ty));
        assert_eq!(usize::from(ty), usize::from(ty.get()));
    }
    for number in [1, 77, 65535] {
        assert_eq!(MemcgId::try_from(number).map(u16::from), Ok(number));
    }
    for entry in [entry(0, 0), entry(31, SwapEntry::MAX_OFFSET)] {
        assert_eq!(SwapEntry::try_from(u64::from(entry)), Ok(entry));
        assert_eq!(u64::from(entry), entry.to_bits());
    }

    let says = |error: RangeError| error.to_string();
    for ty in [32, 255] {
        let text = format!("swap type {ty} is out of range: use 0 to 31");
        assert_eq!(SwapType::try_from(ty).map_err(says), Err(text));
    }
    let text = "cgroup id 0 is out of range: use 1 to 65535".to_string();
    assert_eq!(MemcgId::try_from(0).map_err(says), Err(text));
    for (bits, hex) in [
        (1 << 55, "0x80000000000000"),
        (u64::MAX, "0xffffffffffffffff"),
    ] {
        let text = format!(
            "{hex} is not a swap entry, because it has bits above bit 54: use at most 0x7fffffffffffff"
        );
        assert_eq!(SwapEntry::try_from(bits).map_err(says), Err(text));
    }
    let error = SwapType::try_from(32).unwrap_err();
    assert_eq!((error.number, error.value), (Number::SwapType, 32));
    let _: &dyn Error = &error;
}

/// In the order in which `runs_of` gives them: by type, then by offset.
#[test]
fn entries_and_runs_are_ordered_as_a_table_gives_them() {
    let table = SwapRecords::new();
    let starts = [entry(0, 5), entry(0, 900), entry(2, 0), entry(31, 4)];
    for start in starts {
        let _ = table.swapon(start.swap_type(), 1000);
        table.record(start, id(7)).unwrap();
    }
    let runs: Vec<_> = table.runs_of(id(7)).collect();
    assert!(runs.iter().map(|run| run.start).eq(starts));
    assert!(starts.is_sorted_by(|a, b| a < b), "{starts:?}");
    assert!(runs.is_sorted_by(|a, b| a < b), "{runs:?}");
    let [first, ..] = runs[..] else {
        panic!("{runs:?}")
    };
    assert!(first < Run { len: 2, ..first } && first < Run { id: id(8), ..first });
    assert_eq!(first.to_string(), "0:5+1 of 7");
}

#[test]
fn a_report_is_written_in_one_line() {
    let table = SwapRecords::new();
    table.swapon(SwapType::new(0).unwrap(), 10_000).unwrap();
    table.record_range(entry(0, 0), 3, id(2)).unwrap();
    let migrated = table.migration(id(2), id(3)).run();
    let text = migrated.to_string();
    assert!(
        text.starts_with("3 records moved, 1 chunks scanned, 4 chunks skipped, longest hold "),
        "{text}"
    );
    assert!(
        text.ends_with(" entries, stopped at the end of the table, at most 0 records left"),
        "{text}"
    );
    let hinted = table
        .migration(id(3), id(2))
        .memsw_hint(&0)
        .run()
        .to_string();
    assert!(
        hinted.ends_with(" entries, stopped by the hint, at most 3 records left"),
        "{hinted}"
    );
    assert!(!text.contains('\n'));
}

#[test]
fn what_can_be_compared_can_be_hashed() {
    fn both<T: Eq + Hash + Debug + Clone>() {}
    both::<(SwapType, SwapEntry, MemcgId, Run, Runs)>();
    both::<(Backend, Exchange, Step, Migrated, Memcg, Usage, Resource)>();
    both::<(
        EntryError,
        SwaponError,
        MemcgError,
        ParseError,
        RangeError,
        Number,
    )>();
    let all: HashSet<_> = Backend::ALL.iter().collect();
    assert_eq!(all.len(), Backend::ALL.len());
}

#[test]
fn a_lock_begins_free() {
    use lock_api::RawMutex;
    let lock = RawSpinLock::default();
    assert!(!lock.is_locked());
    let mutex = lock_api::Mutex::from_raw(lock, 5);
    assert_eq!(*mutex.lock(), 5);
}

#[test]
fn texts_of_several_numbers_are_padded_as_one() {
    let start = SwapEntry::new(SwapType::new(3).unwrap(), 4711).unwrap();
    assert_eq!(
        format!("[{start:>8}] [{start:<8}]"),
        "[  3:4711] [3:4711  ]"
    );
    let (len, id) = (16, MemcgId::new(7).unwrap());
    let run = Run { start, len, id };
    assert_eq!(format!("[{run:^16}]"), "[ 3:4711+16 of 7 ]");
    let last = SwapEntry::new(SwapType::new(31).unwrap(), SwapEntry::MAX_OFFSET).unwrap();
    let (len, id) = (u64::MAX, MemcgId::MAX);
    let longest = Run {
        start: last,
        len,
        id,
    };
    assert_eq!(
        longest.to_string(),
        "31:1125899906842623+18446744073709551615 of 65535"
    );
}
