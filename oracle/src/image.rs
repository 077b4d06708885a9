//! Makes images as `docs/image-format.md` describes them, without the crate, and with any fault that a test
//! needs.

const PAGE: usize = 4096;
const UNIT: usize = 32_768;

/// The contents of an image.
#[derive(Clone, Default, Debug)]
pub struct Craft {
    /// The number, the pages and the first ids of each type.
    pub types: Vec<(u32, u64, Vec<u16>)>,
    pub tree: Vec<u8>,
}

/// Writes a field.
pub fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// Makes the last four bytes of a page the checksum of the others.
pub fn seal(page: &mut [u8]) {
    let sum = crc32c::crc32c(&page[..PAGE - 4]);
    put(page, PAGE - 4, &sum.to_le_bytes());
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
}

fn u32_of(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("a small image").to_le_bytes()
}

impl Craft {
    /// Makes an image with type 5 alone.
    pub fn one(pages: u64, ids: &[u16]) -> Self {
        Self {
            types: vec![(5, pages, ids.to_vec())],
            tree: Vec::new(),
        }
    }

    /// Returns the bytes of the image. Counts the records within the pages of each type.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; PAGE];
        put(&mut bytes, 0, b"SWAPRECS");
        put(&mut bytes, 8, &1_u32.to_le_bytes());
        put(&mut bytes, 12, &u32_of(PAGE));
        put(&mut bytes, 16, &u32_of(UNIT));
        put(&mut bytes, 20, &u32_of(self.types.len()));
        let mut units = Vec::new();
        let mut records = 0;
        for (at, (number, pages, ids)) in self.types.iter().enumerate() {
            let at = 64 + 32 * at;
            put(&mut bytes, at, &number.to_le_bytes());
            put(&mut bytes, at + 8, &pages.to_le_bytes());
            let offset = bytes.len() as u64;
            put(&mut bytes, at + 16, &offset.to_le_bytes());
            put(&mut bytes, at + 24, &(units.len() as u64 / 8).to_le_bytes());
            let pages = usize::try_from(*pages).expect("a small image");
            let mut all = ids.clone();
            all.resize(pages.next_multiple_of(PAGE / 2), 0);
            for (unit, ids) in all.chunks(UNIT).enumerate() {
                let raw: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
                units.extend(crc32c::crc32c(&raw).to_le_bytes());
                let within = ids.iter().take(pages - unit * UNIT);
                let there = within.filter(|&&id| id != 0).count();
                units.extend(u32_of(there));
                records += there as u64;
                bytes.extend(raw);
            }
        }
        let mut tree_sum = 0;
        if !self.tree.is_empty() {
            let at = bytes.len();
            put(&mut bytes, 32, &(at as u64).to_le_bytes());
            put(&mut bytes, 40, &(self.tree.len() as u64).to_le_bytes());
            bytes.extend(&self.tree);
            pad(&mut bytes);
            tree_sum = crc32c::crc32c(&bytes[at..]);
        }
        let at = bytes.len();
        put(&mut bytes, 48, &(at as u64).to_le_bytes());
        put(&mut bytes, 56, &(units.len() as u64 / 8).to_le_bytes());
        bytes.extend(&units);
        pad(&mut bytes);
        let units_sum = crc32c::crc32c(&bytes[at..]);
        let len = (bytes.len() + PAGE) as u64;
        put(&mut bytes, 24, &len.to_le_bytes());
        seal(&mut bytes[..PAGE]);
        let mut end = vec![0; PAGE];
        put(&mut end, 0, b"SRECSEND");
        put(&mut end, 8, &len.to_le_bytes());
        put(&mut end, 16, &records.to_le_bytes());
        put(&mut end, 24, &bytes[PAGE - 4..PAGE]);
        put(&mut end, 28, &units_sum.to_le_bytes());
        put(&mut end, 32, &tree_sum.to_le_bytes());
        seal(&mut end);
        bytes.extend(end);
        bytes
    }
}

/// Returns the image after a change, with matching checksums in header and trailer.
pub fn changed(craft: &Craft, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = craft.bytes();
    change(&mut bytes);
    seal(&mut bytes[..PAGE]);
    let sum: [u8; 4] = bytes[PAGE - 4..PAGE].try_into().expect("four bytes");
    let end = bytes.len() - PAGE;
    put(&mut bytes, end + 24, &sum);
    seal(&mut bytes[end..]);
    bytes
}
