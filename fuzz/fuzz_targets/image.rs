//! Reads any file as an image in each way. All of them refuse it with the same words, or all of them give the
//! same table, which makes the same image again.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use swap_records::image::{self, ImageError, Map, Reader, Writer};
use swap_records::memcg::{Memcg, Memcgs};
use swap_records::{RawSpinLock, SwapRecords, SwapType};
use swap_records_fuzz::File;

fuzz_target!(|file: File| {
    let bytes = &file.0;
    let reader = match Reader::of(bytes) {
        Ok(reader) => reader,
        Err(error) => return refused(bytes, &error),
    };
    let table = SwapRecords::new();
    let loaded = reader.load(&table);
    let verified = reader.verify();
    assert_eq!(
        verified.as_ref().err().map(ToString::to_string),
        loaded.as_ref().err().map(ToString::to_string)
    );
    if let Err(error) = loaded {
        assert!(SwapType::all().all(|ty| table.max_pages(ty).is_none()));
        return refused(bytes, &error);
    }
    table.validate().expect("an index that fits");
    agrees(bytes, &table);
    if reader.has_tree() {
        // If there are more pages than a counter can count, the charge finds this.
        match reader.tree::<RawSpinLock>() {
            Ok(restored) => tree(&restored.memcgs),
            Err(ImageError::Memcg(_)) => {}
            Err(error) => panic!("{error}"),
        }
    } else {
        let mut again = Vec::new();
        image::write_to(&table, &mut again).expect("memory");
        assert!(again == *bytes, "one table, one image");
    }
});

/// A map refuses the file with the same words, except for errors of cgroups.
fn refused(bytes: &[u8], error: &ImageError) {
    let text = error.to_string();
    assert!(text.contains("offset"), "{text}");
    if !matches!(error, ImageError::Cgroup { .. }) {
        let map = Map::of(bytes).and_then(|map| map.verify());
        assert_eq!(map.expect_err("refused").to_string(), text);
    }
}

/// A map gives the answers of the table.
fn agrees(bytes: &[u8], table: &SwapRecords) {
    let map = Map::of(bytes).expect("it was read");
    map.verify().expect("it was read");
    let mut owners = BTreeMap::new();
    for ty in SwapType::all() {
        assert!(map.runs(ty).eq(table.runs(ty)));
        for run in table.runs(ty) {
            *owners.entry(run.id).or_insert(0) += run.len;
        }
    }
    assert!(
        map.owners()
            .eq(owners.iter().map(|(&id, &count)| (id, count)))
    );
    assert_eq!(map.records(), owners.values().sum::<u64>());
    for (&id, &count) in owners.iter().take(5) {
        assert_eq!((map.count(id), table.count(id)), (count, count));
        assert!(map.runs_of(id).eq(table.runs_of(id)));
    }
}

/// A restored tree can be restored again, with the same state.
fn tree(memcgs: &Memcgs) {
    memcgs.validate().expect("books that balance");
    let mut bytes = Vec::new();
    Writer::of_tree(memcgs)
        .write_to(&mut bytes)
        .expect("memory");
    let reader = Reader::of(&bytes).expect("a good image");
    let again = reader.tree::<RawSpinLock>().expect("a good image");
    assert_eq!(again.raised, []);
    let all = |memcgs: &Memcgs| -> Vec<_> {
        let of = |memcg: Memcg| {
            (
                memcg.id(),
                memcgs.usage(memcg),
                memcgs.parent(memcg).map(|of| of.map(Memcg::id)),
            )
        };
        memcgs.iter().map(of).collect()
    };
    assert_eq!(all(memcgs), all(&again.memcgs));
}
