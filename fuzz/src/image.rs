//! Files that may be images: any bytes, or types, ids and cgroups with right checksums, and with errors.

use arbitrary::{Arbitrary, Result, Unstructured};
use swap_records_oracle::image::{Craft, changed, put};

/// The bytes of a file.
#[derive(Debug)]
pub struct File(pub Vec<u8>);

impl<'a> Arbitrary<'a> for File {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let how = u8::arbitrary(u)?;
        // One file of four has any bytes. A seed is an image.
        if how < 64 {
            return Ok(Self(u.bytes(u.len())?.to_vec()));
        }
        let mut craft = Craft::default();
        for nth in 0..how % 4 {
            craft.types.push(swap_type(u, nth)?);
        }
        if how & 4 != 0 {
            craft.tree = tree(u)?;
        }
        // Fields of header and trailer are changed, with right checksums.
        let mut changes = Vec::new();
        while !u.is_empty() && changes.len() < 8 && how & 8 != 0 {
            let [page, at, value] = <[u8; 3]>::arbitrary(u)?;
            changes.push((page, usize::from(at), value));
        }
        let mut bytes = changed(&craft, |bytes| {
            let end = bytes.len() - 4096;
            for (page, at, value) in changes {
                let at = match page % 4 {
                    0 => end + at % 40,
                    _ => at % 192,
                };
                put(bytes, at, &[value]);
            }
        });
        // Other bytes and the length are changed, without the checksums.
        if how & 16 != 0 {
            let [high, low, value] = <[u8; 3]>::arbitrary(u)?;
            let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len();
            bytes[at] ^= value;
        }
        if how & 32 != 0 {
            let len = usize::from(u8::arbitrary(u)?);
            bytes.truncate(bytes.len() - len.min(bytes.len()));
        }
        Ok(Self(bytes))
    }
}

/// A number, usually higher than those before, a size near a border, and runs of ids.
fn swap_type(u: &mut Unstructured, nth: u8) -> Result<(u32, u64, Vec<u16>)> {
    /// Near the size of a page of ids, and of a unit.
    const SIZES: [u64; 8] = [1, 7, 2047, 2048, 2049, 32_767, 32_769, 66_000];
    let [number, size] = <[u8; 2]>::arbitrary(u)?;
    let number = match number {
        0..224 => nth * 8 + number % 8,
        _ => number,
    };
    let pages = SIZES[usize::from(size) % SIZES.len()];
    let most = pages.next_multiple_of(2048) as usize;
    let mut ids = Vec::new();
    for _ in 0..size >> 3 {
        let [low, high, len] = <[u8; 3]>::arbitrary(u)?;
        let id = u16::from_le_bytes([low, high & 0x13]);
        let len = usize::from(len) * if high & 0x80 == 0 { 1 } else { 256 };
        ids.extend((0..len.min(most - ids.len())).map(|_| id));
    }
    Ok((u32::from(number), pages, ids))
}

/// Cgroups, most of which are possible.
fn tree(u: &mut Unstructured) -> Result<Vec<u8>> {
    let nr = u8::arbitrary(u)? % 12 + 1;
    let mut tree = u64::from(nr).to_le_bytes().to_vec();
    for nth in 0..u16::from(nr) {
        let [id, parent, flags, own, memory, memsw, swap] = <[u8; 7]>::arbitrary(u)?;
        let (id, parent) = match nth {
            0 if id < 250 => (1, 0),
            _ if id < 250 => (nth + 1, u16::from(parent) % nth.max(1) + 1),
            _ => (u16::from(id), u16::from(parent)),
        };
        tree.extend(id.to_le_bytes());
        tree.extend(parent.to_le_bytes());
        let flags = if nth == 0 || flags < 200 {
            0
        } else {
            flags % 3
        };
        tree.extend(u32::from(flags).to_le_bytes());
        let number = |byte: u8| match byte {
            0..200 => u64::from(byte),
            200..250 => u64::MAX,
            _ => u64::MAX - u64::from(byte % 4),
        };
        let limit = |byte| if nth == 0 { u64::MAX } else { number(byte) };
        tree.extend(number(own).to_le_bytes());
        tree.extend(limit(memory).to_le_bytes());
        tree.extend(limit(memsw).max(limit(memory)).to_le_bytes());
        tree.extend(limit(swap).to_le_bytes());
    }
    Ok(tree)
}
