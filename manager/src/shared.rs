//! Makes memory that processes share: sealed `memfd`s, and their maps as atomic words.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, SeekFrom};

use crate::About;

/// Makes a `memfd` of this size, sealed so that no process can shrink or grow it.
pub(crate) fn memfd(name: &str, bytes: u64) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let what = || format!("making the memfd {name:?} of {bytes} bytes");
    let fd = rustix::fs::memfd_create(name, flags).about(what)?;
    let file = File::from(fd);
    file.set_len(bytes).about(what)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).about(what)?;
    Ok(file)
}

/// Returns the seals of a file, which must be a `memfd`.
pub(crate) fn seals(file: &File) -> io::Result<SealFlags> {
    rustix::fs::fcntl_get_seals(file).about(|| "reading the seals of a memfd".into())
}

/// Gives the memory of a part of the file back. The next read there finds zeros, or is a missing fault.
pub(crate) fn punch(file: &File, start: u64, len: u64) -> io::Result<()> {
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, how, start, len)
        .about(|| format!("punching {len} bytes of a memfd at {start}"))
}

/// Returns whether the file has memory at `at`.
pub(crate) fn is_present(file: &File, at: u64) -> io::Result<bool> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(found) => Ok(found == at),
        // Nothing from there to the end.
        Err(rustix::io::Errno::NXIO) => Ok(false),
        Err(error) => Err(error).about(|| format!("looking for data of a memfd at {at}")),
    }
}

/// A sealed `memfd`, mapped and shared, as atomic words.
#[derive(Debug)]
pub(crate) struct Words {
    map: MmapRaw,
    len: usize,
}

impl Words {
    /// Maps the whole file.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        if !seals(file)?.contains(SealFlags::SHRINK) {
            let why = "the file could be truncated under its map: seal it against shrinking";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let map = MmapOptions::new()
            .map_raw(file)
            .about(|| "mapping a memfd".into())?;
        let len = map.len() / size_of::<AtomicU64>();
        Ok(Self { map, len })
    }

    /// Returns the words. Other processes write to them, too.
    pub(crate) fn get(&self) -> &[AtomicU64] {
        // SAFETY: the map is aligned to pages, has this length, is readable and writable, and lives until
        // `self` is dropped. The seal keeps every process from truncating the file under it. All processes of
        // this program reach it by atomics, or let the kernel replace whole pages of it by ones with the same
        // bytes.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.len) }
    }

    /// Returns the address of the map in this process.
    pub(crate) fn address(&self) -> u64 {
        self.map.as_ptr() as u64
    }

    /// Returns the size of the map in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.map.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn what_is_punched_is_not_present_and_reads_as_zeros() {
        let file = memfd("test", 3 * 4096).unwrap();
        let words = Words::map(&file).unwrap();
        for page in 0..3 {
            words.get()[page * 512].store(7, Relaxed);
        }
        punch(&file, 4096, 4096).unwrap();
        let present = [0, 1, 2].map(|page| is_present(&file, page * 4096).unwrap());
        assert_eq!(present, [true, false, true]);
        punch(&file, 8192, 4096).unwrap();
        assert!(!is_present(&file, 8192).unwrap());
        assert_eq!(words.get()[512].load(Relaxed), 0);
    }

    #[test]
    fn a_file_that_could_shrink_is_not_mapped() {
        let fd = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        assert!(Words::map(&File::from(fd)).is_err());
    }
}
