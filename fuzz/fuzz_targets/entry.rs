//! Packs and unpacks entries and ids, from any bits: total and lossless.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swap_records::{MemcgId, SwapEntry, SwapType};

fuzz_target!(|input: (u64, u8, u64, u16)| {
    let (bits, ty, nr, id) = input;

    let entry = SwapEntry::from_bits(bits);
    assert_eq!(entry.is_some(), bits < 1 << 55);
    if let Some(entry) = entry {
        assert_eq!(entry.to_bits(), bits);
        unpacked(entry, bits);
        further(entry, nr);
    }

    let swapped = SwapEntry::from_pagemap(bits);
    // Swapped, not present, and not a guard page.
    assert_eq!(swapped.is_some(), bits >> 62 == 1 && bits >> 58 & 1 == 0);
    if let Some(entry) = swapped {
        assert_eq!(entry.to_bits(), bits & 0x7f_ffff_ffff_ffff);
        unpacked(entry, bits);
    }

    let ty = SwapType::new(ty).inspect(|made| assert_eq!(made.get(), ty));
    assert_eq!(ty.is_some(), input.1 < 32);
    if let Some(ty) = ty {
        assert_eq!(ty.to_string(), input.1.to_string());
        let made = SwapEntry::new(ty, bits);
        assert_eq!(made.is_some(), bits < 1 << 50);
        if let Some(entry) = made {
            assert_eq!((entry.swap_type(), entry.offset()), (ty, bits));
            assert_eq!(SwapEntry::from_bits(entry.to_bits()), Some(entry));
            further(entry, nr);
        }
    }

    let made = MemcgId::new(id);
    assert_eq!(made.map_or(0, MemcgId::get), id);
    assert_eq!(made.is_none(), id == 0);
});

/// Bits 0 to 4 are the type, 5 to 54 the offset, and the text has both.
fn unpacked(entry: SwapEntry, bits: u64) {
    let (ty, offset) = (entry.swap_type(), entry.offset());
    assert_eq!(u64::from(ty.get()), bits % 32);
    assert_eq!(offset, bits / 32 % (1 << 50));
    assert_eq!(SwapEntry::new(ty, offset), Some(entry));
    let text = format!("{}:{offset}", bits % 32);
    assert_eq!(entry.to_string(), text);
    assert_eq!(text.parse(), Ok(entry));
}

/// `nr` slots further in the same swapfile, or too far.
fn further(entry: SwapEntry, nr: u64) {
    let end = u128::from(entry.offset()) + u128::from(nr);
    match entry.checked_add(nr) {
        Some(sum) => {
            assert_eq!(
                (sum.swap_type(), u128::from(sum.offset())),
                (entry.swap_type(), end)
            );
            assert!(sum >= entry);
        }
        None => assert!(end >= 1 << 50),
    }
}
