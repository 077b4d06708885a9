//! Keeps the version of each page of the region, and the guest that writes it. The board lies in memory that
//! the manager does not manage. So the guests know the right content of a page without the manager.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::PAGE;
use crate::shared::{self, Words};

#[derive(Debug)]
pub(crate) struct Board(Words);

/// Gives one guest a page of the region until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    word: &'a AtomicU64,
    value: u64,
}

const VERSION: u64 = (1 << 32) - 1;
/// The number of the guest that has the page.
const HOLDER: u64 = 0xffff << 32;
/// A writer was killed, and a part of the page has the next version.
const TORN: u64 = 1 << 63;

impl Board {
    pub(crate) fn file(pages: u64) -> io::Result<File> {
        shared::memfd("board", (8 * pages).next_multiple_of(PAGE as u64))
    }

    pub(crate) fn map(file: &File) -> io::Result<Self> {
        Ok(Self(Words::map(file)?))
    }

    /// Takes the page, unless another guest has it.
    pub(crate) fn try_take(&self, page: usize, guest: u64) -> Option<Turn<'_>> {
        let word = &self.0.get()[page];
        let value = word.load(Relaxed);
        let mine = value | (guest << 32 & HOLDER);
        if value & HOLDER != 0
            || word
                .compare_exchange(value, mine, Acquire, Relaxed)
                .is_err()
        {
            return None;
        }
        Some(Turn { word, value: mine })
    }

    /// Ends the turn of a guest that was killed.
    pub(crate) fn release(&self, guest: u64) {
        for word in self.0.get() {
            if word.load(Relaxed) & HOLDER == guest << 32 & HOLDER {
                word.fetch_and(!HOLDER, AcqRel);
            }
        }
    }
}

impl Turn<'_> {
    pub(crate) fn version(&self) -> u64 {
        self.value & VERSION
    }

    pub(crate) fn is_torn(&self) -> bool {
        self.value & TORN != 0
    }

    /// Makes the page one of the next version: `work` writes it.
    pub(crate) fn write(&mut self, work: impl FnOnce(u64)) {
        let next = self.version() + 1;
        self.word.store(self.value | TORN, Release);
        // A reader must find the mark before it finds a word of the next version.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        work(next);
        self.value = self.value & HOLDER | next;
        self.word.store(self.value, Release);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.word.store(self.value & !HOLDER, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_is_refused_a_page_leaves_it_to_the_one_that_has_it() {
        let board = Board::map(&Board::file(1).unwrap()).unwrap();
        let _turn = board.try_take(0, 7).unwrap();
        assert!(board.try_take(0, 8).is_none());
        assert!(board.try_take(0, 8).is_none());
    }

    #[test]
    fn a_writer_that_is_killed_leaves_a_torn_page_and_no_lock() {
        let board = Board::map(&Board::file(3).unwrap()).unwrap();
        let mut turn = board.try_take(1, 7).unwrap();
        assert!(board.try_take(1, 8).is_none());
        turn.write(|version| assert_eq!(version, 1));
        turn.write(|_| ());
        drop(turn);
        let mut turn = board.try_take(1, 9).unwrap();
        assert_eq!((turn.version(), turn.is_torn()), (2, false));
        turn.write(|_| {
            // Killed here.
            board.release(8);
            assert!(board.try_take(1, 8).is_none());
            board.release(9);
            let turn = board.try_take(1, 8).unwrap();
            assert_eq!((turn.version(), turn.is_torn()), (2, true));
        });
    }
}
