//! Fills pages with words that follow from the guest, the number of the page, and how often it was written.
//! So a page of another guest, another page and an older version all differ from the right one.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Words per page.
pub(crate) const WORDS: usize = 512;

/// Which contents a page has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Content {
    /// The guest, or 0 for the region.
    pub(crate) owner: u64,
    pub(crate) page: u64,
    /// 0 for a page that was never written.
    pub(crate) version: u64,
}

impl Content {
    fn word(self, at: usize) -> u64 {
        if self.version == 0 {
            return 0;
        }
        let key = self.owner << 48 ^ self.page << 24 ^ self.version;
        // Different for each key at the same place, and mixed, so that a page that was shifted is wrong as
        // well.
        let mixed = key
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(at as u64);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1
    }

    /// Writes the page.
    pub(crate) fn write(self, page: &[AtomicU64]) {
        for (at, word) in page.iter().enumerate() {
            word.store(self.word(at), Relaxed);
        }
    }

    /// The first word that is neither this page's nor, where a writer was killed, one of its next version.
    pub(crate) fn wrong(self, page: &[AtomicU64], torn: bool) -> Option<Wrong> {
        let next = Self {
            version: self.version + 1,
            ..self
        };
        page.iter().enumerate().find_map(|(at, word)| {
            let found = word.load(Relaxed);
            let right = found == self.word(at) || torn && found == next.word(at);
            let expected = self.word(at);
            (!right).then_some(Wrong {
                at,
                found,
                expected,
            })
        })
    }
}

/// A word that differs from the expected one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wrong {
    pub(crate) at: usize,
    pub(crate) found: u64,
    pub(crate) expected: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Vec<AtomicU64> {
        (0..WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_page_of_another_guest_another_page_and_an_older_one_are_noticed() {
        let right = Content {
            owner: 3,
            page: 4711,
            version: 29,
        };
        let page = page();
        right.write(&page);
        assert_eq!(right.wrong(&page, false), None);
        let others = [
            Content { owner: 4, ..right },
            Content {
                page: 4712,
                ..right
            },
            Content {
                version: 28,
                ..right
            },
            Content {
                version: 30,
                ..right
            },
            Content {
                version: 0,
                ..right
            },
        ];
        for other in others {
            assert_eq!(
                other.wrong(&page, false).map(|wrong| wrong.at),
                Some(0),
                "{other:?}"
            );
        }
        page[511].fetch_xor(1 << 40, Relaxed);
        assert_eq!(right.wrong(&page, false).map(|wrong| wrong.at), Some(511));
    }

    #[test]
    fn a_page_whose_writer_was_killed_may_be_in_between_two_versions_and_no_others() {
        let right = Content {
            owner: 0,
            page: 1,
            version: 5,
        };
        let page = page();
        for (at, word) in page.iter().enumerate() {
            let version = if at < 100 { 6 } else { 5 };
            word.store(Content { version, ..right }.word(at), Relaxed);
        }
        assert_eq!(right.wrong(&page, true), None);
        assert_eq!(right.wrong(&page, false).map(|wrong| wrong.at), Some(0));
        page[7].store(
            Content {
                version: 4,
                ..right
            }
            .word(7),
            Relaxed,
        );
        assert_eq!(right.wrong(&page, true).map(|wrong| wrong.at), Some(7));
    }
}
