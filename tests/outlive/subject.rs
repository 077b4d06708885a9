//! A file of a few regions, and helpers for it.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use swap_records::file::{FileError, RecordFile, SwaponFileError};
use swap_records::{MemcgId, REGION_ENTRIES, SwapEntry, SwapRecords, SwapType};

use crate::child::Folder;

pub const TYPE: SwapType = SwapType::new(3).unwrap();
pub const REGION: u64 = REGION_ENTRIES as u64;
pub const PAGES: u64 = 2 * REGION + 100;
/// The offset of the entries in the file.
pub const FIRST: u64 = 4096;
pub const LEN: u64 = FIRST + 3 * 2 * REGION;

pub fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

pub fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

impl Folder {
    /// Makes a new file of records, which only this test writes to.
    pub fn create(&self, name: &str) -> RecordFile {
        // SAFETY: while a test truncates the file, or writes to it, no table has it on.
        unsafe { RecordFile::create(self.0.join(name), PAGES) }.unwrap()
    }

    pub fn open(&self, name: &str) -> File {
        let options = File::options().read(true).write(true).clone();
        options.open(self.0.join(name)).unwrap()
    }
}

pub fn from_file(file: File) -> RecordFile {
    // SAFETY: as in `Folder::create`.
    unsafe { RecordFile::from_file(file) }.unwrap()
}

pub fn swapon(table: &SwapRecords, file: &RecordFile) -> Result<(u64, u64), SwaponFileError> {
    let found = table.swapon_file(TYPE, PAGES, file).run()?;
    table.validate().unwrap();
    Ok((found.records, found.regions))
}

/// Returns the reason why the file is refused. No type is on then, and the type can be used for other
/// swapfiles.
pub fn refused(file: &RecordFile) -> (FileError, String) {
    let table = SwapRecords::new();
    let error = swapon(&table, file).unwrap_err();
    assert_eq!(table.max_pages(TYPE), None);
    table.swapon(TYPE, 10).unwrap();
    table.validate().unwrap();
    let text = error.to_string();
    match error {
        SwaponFileError::File { ty: TYPE, why } => (why, text),
        other => panic!("{other:?}"),
    }
}

pub fn assert_says(text: &str, all: &[&str]) {
    for says in all {
        assert!(text.contains(says), "{says:?} is not in: {text}");
    }
}

pub fn read(file: &RecordFile, from: u64, to: u64) -> Vec<u8> {
    let file = File::from(file.as_fd().try_clone_to_owned().unwrap());
    let mut bytes = vec![1; usize::try_from(to - from).unwrap()];
    file.read_exact_at(&mut bytes, from).unwrap();
    bytes
}
