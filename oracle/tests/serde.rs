//! The small types in JSON, in both directions. Invalid values are refused when they are read.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json, to_value};
use serde_test::{Compact, Configure, Token, assert_de_tokens_error, assert_tokens};

use swap_records::memcg::{Memcgs, Resource, Usage};
use swap_records::{
    Backend, Exchange, Footprint, MemcgId, Migrated, Run, SwapEntry, SwapRecords, SwapType,
};

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn entry(ty: u8, offset: u64) -> SwapEntry {
    SwapEntry::new(SwapType::new(ty).unwrap(), offset).unwrap()
}

fn is<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, json: Value) {
    assert_eq!(to_value(&value).unwrap(), json);
    assert_eq!(from_value::<T>(json.clone()).unwrap(), value, "{json}");
}

fn refused<T: DeserializeOwned + Debug>(json: Value, says: &str) {
    let error = from_value::<T>(json.clone()).unwrap_err().to_string();
    assert!(error.contains(says), "{json}: {error}");
}

#[test]
fn a_value_is_written_and_read_again() {
    is(SwapType::new(31).unwrap(), json!(31));
    is(id(1), json!(1));
    is(id(65535), json!(65535));
    is(None::<MemcgId>, json!(null));
    is(entry(3, 4711), json!("3:4711"));
    is(
        entry(31, SwapEntry::MAX_OFFSET),
        json!("31:1125899906842623"),
    );
    let (start, id) = (entry(3, 4711), id(7));
    is(
        Run { start, len: 16, id },
        json!({ "start": "3:4711", "len": 16, "id": 7 }),
    );
    for &backend in Backend::ALL {
        is(backend, json!(backend.to_string()));
    }
    is(Exchange::Stored, json!("stored"));
    is(Exchange::Mismatch(Some(id)), json!({ "mismatch": 7 }));
    is(Exchange::Mismatch(None), json!({ "mismatch": null }));
    is(Resource::Memsw, json!("memsw"));
}

#[test]
fn reports_and_usages_are_written_and_read_again() {
    let table = SwapRecords::new();
    table.swapon(SwapType::new(0).unwrap(), 100).unwrap();
    table.record(entry(0, 5), id(2)).unwrap();
    let migrated = table.migration(id(2), id(3)).run();
    let json = to_value(migrated).unwrap();
    assert_eq!(
        (&json["moved"], &json["stopped_by_hint"]),
        (&json!(1), &json!(false))
    );
    is(migrated, json);
    // A report of an older version has fewer fields, and one of a newer version has more.
    let other: Migrated = from_value(json!({ "moved": 1, "other": "new" })).unwrap();
    assert_eq!((other.moved, other.chunks_scanned), (1, 0));

    let footprint = table.footprint();
    let json = to_value(footprint).unwrap();
    assert_eq!(json["table"]["reserved"], json!(65_536));
    is(footprint, json);
    let other: Footprint =
        from_value(json!({ "cells": { "resident": 1, "other": 2 }, "other": "new" })).unwrap();
    assert_eq!((other.total().resident, other.total().reserved), (1, 0));

    let memcgs = Memcgs::new();
    memcgs.charge(memcgs.root(), 3).unwrap();
    let usage = memcgs.usage(memcgs.root()).unwrap();
    let mut json = to_value(usage).unwrap();
    assert_eq!(
        (&json["memory"], &json["memory_limit"]),
        (&json!(3), &json!(null))
    );
    is(usage, json.clone());
    json["other"] = json!("new");
    assert_eq!(from_value::<Usage>(json.clone()).unwrap(), usage);
    // A value from a version without limits of swap.
    let fields = json.as_object_mut().unwrap();
    assert!(fields.remove("swap_total").is_some() && fields.remove("swap_limit").is_some());
    assert_eq!(from_value::<Usage>(json).unwrap(), usage);
    is(Resource::Swap, json!("swap"));
}

#[test]
fn invalid_values_are_refused() {
    refused::<MemcgId>(json!(0), "cgroup id 0 is out of range: use 1 to 65535");
    refused::<MemcgId>(json!(65536), "65536");
    refused::<MemcgId>(json!("7"), "string");
    refused::<SwapType>(json!(32), "swap type 32 is out of range: use 0 to 31");
    refused::<SwapType>(json!(-1), "-1");
    for text in ["32:0", "3:1125899906842624", "3"] {
        let error = text.parse::<SwapEntry>().unwrap_err().to_string();
        refused::<SwapEntry>(json!(text), &error);
    }
    refused::<SwapEntry>(json!(4711), "a swap entry as its type and its offset");
    refused::<Backend>(json!("avx3"), "no backend has this name");
    refused::<Exchange>(json!({ "mismatch": 0 }), "cgroup id 0");

    let run = |start: &str, len: u64, id: u16| json!({ "start": start, "len": len, "id": id });
    refused::<Run>(run("3:4711", 16, 0), "cgroup id 0");
    refused::<Run>(run("32:4711", 16, 7), "swap type");
    let none = "a run of 0 slots cannot begin at 3:4711: use 1 to 1125899906837913 slots";
    refused::<Run>(run("3:4711", 0, 7), none);
    for len in [2, u64::MAX] {
        let text =
            format!("a run of {len} slots cannot begin at 3:1125899906842623: use 1 to 1 slots");
        refused::<Run>(run("3:1125899906842623", len, 7), &text);
    }
    assert!(from_value::<Run>(run("3:1125899906842623", 1, 7)).is_ok());
}

#[test]
fn entries_are_their_bits_in_binary_formats() {
    for entry in [entry(0, 0), entry(31, SwapEntry::MAX_OFFSET)] {
        assert_tokens(&entry.compact(), &[Token::U64(entry.to_bits())]);
    }
    for (bits, hex) in [
        (1 << 55, "0x80000000000000"),
        (u64::MAX, "0xffffffffffffffff"),
    ] {
        let says =
            "is not a swap entry, because it has bits above bit 54: use at most 0x7fffffffffffff";
        let error = format!("{hex} {says}");
        assert_de_tokens_error::<Compact<SwapEntry>>(&[Token::U64(bits)], &error);
    }
}
