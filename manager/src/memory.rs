//! Memory that guests share with the manager: a `memfd`, and a word for each of its pages.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::Ordering::{Acquire, SeqCst};

use parking_lot::{Mutex, MutexGuard};

use crate::page::State;
use crate::shared::{self, Words};
use crate::{About, PAGE, index};

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
    /// The bytes of the file of words for so many pages.
    pub(crate) fn bytes_of_words(pages: u64) -> u64 {
        (8 * pages).next_multiple_of(PAGE as u64)
    }

    /// The memory of a file, with the words of the other one.
    pub(crate) fn new(file: File, words: &File) -> io::Result<Self> {
        let pages = index(file.metadata()?.len() / PAGE as u64);
        let words = Words::map(words)?;
        if words.get().len() < pages {
            return Err(io::Error::other("there are fewer words than pages"));
        }
        let pages = (0..pages).map(|_| Mutex::default()).collect();
        Ok(Self { file, words, pages })
    }

    /// How many pages it has.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// What the page's word says now. Without its lock it may be another thing the next moment.
    pub(crate) fn peek(&self, at: usize) -> State {
        State::from_bits(self.words.get()[at].load(Acquire))
    }

    /// Waits for the page.
    pub(crate) fn lock(&self, at: usize) -> Page<'_> {
        let (memory, heat) = (self, self.pages[at].lock());
        Page { memory, at, heat }
    }

    /// The page, if nobody has it.
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

    /// Gives the memory of `nr` pages back.
    pub(crate) fn punch(&self, at: usize, nr: usize) -> io::Result<()> {
        shared::punch(&self.file, (at * PAGE) as u64, (nr * PAGE) as u64)
    }

    /// Looks for a page that was evicted and is still in memory: one of `evicted`, where the file has more memory than these
    /// `resident` pages. Both must be all that there are.
    pub(crate) fn not_punched(
        &self,
        resident: u64,
        evicted: &[usize],
    ) -> io::Result<Option<usize>> {
        // In units of 512 bytes. Where there are no more pages than those, none is wrong.
        if self.file.metadata()?.blocks() * 512 <= resident * PAGE as u64 {
            return Ok(None);
        }
        for &at in evicted {
            if self.is_present(at)? {
                return Ok(Some(at));
            }
        }
        // Pages that belong to a guest that ended before a manager was killed.
        Ok(None)
    }

    /// Whether there is memory for this page.
    pub(crate) fn is_present(&self, at: usize) -> io::Result<bool> {
        shared::is_present(&self.file, (at * PAGE) as u64)
    }
}

impl Page<'_> {
    pub(crate) fn state(&self) -> State {
        self.memory.peek(self.at)
    }

    /// In the order of the program for whoever finds the word after a kill: nothing moves over it.
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
        // A guest that has ended was being taken back: its pages have no owner any more.
        assert_eq!(memory.not_punched(1, &[1, 3]).unwrap(), None);
    }
}
