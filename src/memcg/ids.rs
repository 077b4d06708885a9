//! [`Ids`]: which ids are free, and the lowest of them.

use crate::id::MemcgId;

/// The number of words for all ids. Models have small stacks, so their trees are small too.
const WORDS: usize = if cfg!(swap_records_loom) {
    64
} else {
    (u16::MAX as usize + 1) / 64
};

/// A bitmap of the free ids, and a second bitmap of its words that are not zero. To find the lowest free id,
/// it reads at most the 16 words of the second bitmap and one word of the first.
#[derive(Debug)]
pub(super) struct Ids {
    words: [u64; WORDS],
    summary: [u64; WORDS / 64],
    used: u32,
}

impl Ids {
    /// Returns a bitmap in which all ids are free. 0 is not an id.
    pub(super) const fn new() -> Self {
        let mut words = [u64::MAX; WORDS];
        words[0] = u64::MAX - 1;
        Self {
            words,
            summary: [u64::MAX; WORDS / 64],
            used: 0,
        }
    }

    /// Returns how many ids are in use.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Returns the lowest free id.
    pub(super) fn lowest(&self) -> Option<MemcgId> {
        let group = self.summary.iter().position(|&bits| bits != 0)?;
        let word = group * 64 + self.summary[group].trailing_zeros() as usize;
        let id = word * 64 + self.words[word].trailing_zeros() as usize;
        MemcgId::new(u16::try_from(id).ok()?)
    }

    /// Returns whether this id is free.
    pub(super) fn is_free(&self, id: MemcgId) -> bool {
        let word = self.words.get(usize::from(id.get()) / 64);
        word.is_some_and(|word| word >> (id.get() % 64) & 1 != 0)
    }

    /// Takes an id that was free.
    pub(super) const fn take(&mut self, id: MemcgId) {
        let (word, bit) = (id.get() as usize / 64, id.get() % 64);
        debug_assert!(self.words[word] >> bit & 1 != 0);
        self.words[word] &= !(1 << bit);
        if self.words[word] == 0 {
            self.summary[word / 64] &= !(1 << (word % 64));
        }
        self.used += 1;
    }

    /// Frees an id that was in use.
    pub(super) fn free(&mut self, id: MemcgId) {
        let (word, bit) = (usize::from(id.get()) / 64, id.get() % 64);
        debug_assert!(self.words[word] >> bit & 1 == 0);
        self.words[word] |= 1 << bit;
        self.summary[word / 64] |= 1 << (word % 64);
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::collections::BTreeSet;

    #[test]
    #[cfg_attr(
        miri,
        ignore = "a set of all ids takes Miri minutes, and nothing here is unsafe"
    )]
    fn the_lowest_free_id_is_found_whatever_was_taken_and_freed() {
        let mut ids = Box::new(Ids::new());
        let mut free: BTreeSet<u16> = (1..=u16::MAX).collect();
        let mut random = fastrand::Rng::with_seed(6);
        let mut taken = alloc::vec::Vec::new();
        for step in 0..300_000 {
            assert_eq!(ids.lowest().map(MemcgId::get), free.first().copied());
            assert_eq!(ids.used() as usize, usize::from(u16::MAX) - free.len());
            // Takes all ids, then frees some, then does both at random.
            if !free.is_empty() && (step < 66_000 || random.bool()) {
                let id = ids.lowest().unwrap();
                ids.take(id);
                free.remove(&id.get());
                taken.push(id);
            } else if !taken.is_empty() {
                let id = taken.swap_remove(random.usize(..taken.len()));
                ids.free(id);
                free.insert(id.get());
            }
        }
        assert_eq!(ids.lowest().map(MemcgId::get), free.first().copied());
    }
}
