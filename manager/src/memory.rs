//! Gives access to memory that guests share with the manager: a `memfd`, and a word for each of its pages.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::Ordering::{Acquire, SeqCst};

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::SealFlags;

use crate::page::State;
use crate::shared::{self, Words};
use crate::{About, PAGE, Result, index};

/// The memory of a guest, or a region that several share.
#[derive(Debug)]
pub(crate) struct Memory {
    /// The guests' memory. The manager does not map it: it reads and punches.
    pub(crate) file: File,
    /// A word for each page. In a `memfd` of their own, so that they outlive the manager.
    words: Words,
    pages: Box<[Mutex<Heat>]>,
}

/// How often a page has come back soon after it was evicted. It is forgotten at a restart.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Heat {
    /// Rounds of the clock's hand that the page has left.
    pub(crate) rounds: u8,
    /// Rounds that it had when it came in last.
    pub(crate) had: u8,
    /// How many pages its owner had evicted when the page went.
    pub(crate) left_at: u32,
}

/// A page that is locked. Its word changes only through this.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    memory: &'a Memory,
    pub(crate) at: usize,
    pub(crate) heat: MutexGuard<'a, Heat>,
}

impl Memory {
    /// Returns the size of the file of words for this number of pages.
    pub(crate) fn bytes_of_words(pages: u64) -> u64 {
        (8 * pages).next_multiple_of(PAGE as u64)
    }

    /// Makes a memory of the file of its pages and the file of its words.
    pub(crate) fn new(file: File, words: &File) -> io::Result<Self> {
        let pages = index(file.metadata()?.len() / PAGE as u64);
        let words = Words::map(words)?;
        if words.get().len() < pages {
            return Err(io::Error::other("there are fewer words than pages"));
        }
        let pages = (0..pages).map(|_| Mutex::default()).collect();
        Ok(Self { file, words, pages })
    }

    /// Checks that a file which another process sent can be the memory of a guest: it has this size, which no
    /// process can change.
    pub(crate) fn check_file(file: &File, bytes: u64) -> Result<()> {
        let seals = shared::seals(file)?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err("its memory is not sealed against shrinking and growing".into());
        }
        let len = file
            .metadata()
            .about(|| "reading the size of its memory".into())?
            .len();
        if len != bytes {
            return Err(format!("its memory has {len} bytes, and a guest has {bytes}").into());
        }
        Ok(())
    }

    /// Returns the number of pages.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// Reads the page's word. It may change at once, unless the caller has locked the page.
    pub(crate) fn peek(&self, at: usize) -> State {
        State::from_bits(self.words.get()[at].load(Acquire))
    }

    /// Waits for the page, and locks it.
    pub(crate) fn lock(&self, at: usize) -> Page<'_> {
        let (memory, heat) = (self, self.pages[at].lock());
        Page { memory, at, heat }
    }

    /// Locks the page, if no thread has it.
    pub(crate) fn try_lock(&self, at: usize) -> Option<Page<'_>> {
        let (memory, heat) = (self, self.pages[at].try_lock()?);
        Some(Page { memory, at, heat })
    }

    /// Reads as many pages from `at` on as fit.
    pub(crate) fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()> {
        self.file
            .read_exact_at(into, (at * PAGE) as u64)
            .about(|| format!("reading a guest's memory at page {at}"))
    }

    /// Gives the memory of `nr` pages back to the system.
    pub(crate) fn punch(&self, at: usize, nr: usize) -> io::Result<()> {
        shared::punch(&self.file, (at * PAGE) as u64, (nr * PAGE) as u64)
    }

    /// Returns a page of `evicted` that is still in memory, if there is one. `resident` is the number of all
    /// pages that may be in memory.
    pub(crate) fn not_punched(
        &self,
        resident: u64,
        evicted: &[usize],
    ) -> io::Result<Option<usize>> {
        // A block has 512 bytes. If there are no more pages than those, there is nothing to look for.
        if self.file.metadata()?.blocks() * 512 <= resident * PAGE as u64 {
            return Ok(None);
        }
        for &at in evicted {
            if self.is_present(at)? {
                return Ok(Some(at));
            }
        }
        // The rest are pages whose words were cleared before a manager was killed.
        Ok(None)
    }

    /// Returns whether the file has memory for this page.
    pub(crate) fn is_present(&self, at: usize) -> io::Result<bool> {
        shared::is_present(&self.file, (at * PAGE) as u64)
    }
}

impl Page<'_> {
    pub(crate) fn state(&self) -> State {
        self.memory.peek(self.at)
    }

    /// Writes the word. A process that reads it after a kill must find all earlier writes and no later ones,
    /// so nothing moves over this write.
    pub(crate) fn set(&self, state: State) {
        self.memory.words.get()[self.at].store(state.to_bits(), SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_evicted_and_not_punched_is_found() {
        let bytes = 4 * PAGE as u64;
        let file = shared::memfd("test", bytes).unwrap();
        file.write_all_at(&vec![7; 4 * PAGE], 0).unwrap();
        let words = shared::memfd("words", Memory::bytes_of_words(4)).unwrap();
        let memory = Memory::new(file, &words).unwrap();
        memory.punch(1, 1).unwrap();
        assert_eq!(memory.not_punched(2, &[1, 3]).unwrap(), Some(3));
        memory.punch(3, 1).unwrap();
        assert_eq!(memory.not_punched(2, &[1, 3]).unwrap(), None);
        // Page 0 or 2 is one whose word was cleared before a manager was killed.
        assert_eq!(memory.not_punched(1, &[1, 3]).unwrap(), None);
    }
}
