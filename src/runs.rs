//! [`Runs`]: the owners that a range had.

use core::fmt;
use core::iter::FusedIterator;
use core::ops::Deref;

use smallvec::SmallVec;

use crate::entry::{Run, SwapEntry};
use crate::id::MemcgId;

/// Runs of slots with one owner each, in the order of their offsets; slots without a record are in
/// none of them. Two runs that touch have different owners.
///
/// A slice of [`Run`]: it dereferences to one. Up to four are kept without an allocation. The callback of
/// [`clear_range_with`](crate::SwapRecords::clear_range_with) takes any number without one.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Runs(SmallVec<[Run; 4]>);

impl Runs {
    /// The owner, 0 for none, of `len` slots.
    #[inline]
    pub(crate) fn of(start: SwapEntry, len: u64, owner: u16) -> Self {
        let mut runs = SmallVec::new();
        if let Some(id) = MemcgId::new(owner) {
            runs.push(Run { start, len, id });
        }
        Self(runs)
    }

    /// Room for so many; the bytes that were refused otherwise.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn with_room(nr: u64) -> Result<Self, usize> {
        let mut runs = SmallVec::new();
        let room = usize::try_from(nr).unwrap_or(usize::MAX);
        match runs.try_reserve_exact(room) {
            Ok(()) => Ok(Self(runs)),
            Err(_) => Err(room.saturating_mul(size_of::<Run>())),
        }
    }

    /// Gives back the room that was for more runs than there are, where that can be had without an abort.
    pub(crate) fn fit(&mut self) {
        if !self.0.spilled() || self.0.capacity() / 2 < self.0.len() {
            return;
        }
        if let Ok(mut runs) = Self::with_room(self.0.len() as u64) {
            self.0.iter().for_each(|&run| runs.push(run));
            *self = runs;
        }
    }

    /// One more at the end, in one piece with the run before where they belong together. There is [room](Self::with_room)
    /// for it: nothing grows here, and the check leaves no text that would.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn push(&mut self, run: Run) {
        match self.0.last_mut() {
            Some(last) if continues(last, &run) => last.len += run.len,
            _ => {
                debug_assert!(self.0.len() < self.0.capacity());
                if self.0.len() < self.0.capacity() {
                    self.0.push(run);
                }
            }
        }
    }
}

/// Whether `next` goes on where `run` ends, with the same owner.
pub(crate) fn continues(run: &Run, next: &Run) -> bool {
    run.id == next.id && run.start.checked_add(run.len) == Some(next.start)
}

/// Hands runs on to a callback, those that touch and have one owner as one.
pub(crate) struct Joined<F> {
    /// Which the next one may continue.
    last: Option<Run>,
    each: F,
}

impl<F: FnMut(Run)> Joined<F> {
    pub(crate) fn new(each: F) -> Self {
        Self { last: None, each }
    }

    pub(crate) fn push(&mut self, run: Run) {
        match &mut self.last {
            Some(last) if continues(last, &run) => last.len += run.len,
            last => {
                if let Some(done) = last.replace(run) {
                    (self.each)(done);
                }
            }
        }
    }

    /// There are no more.
    pub(crate) fn end(mut self) {
        if let Some(last) = self.last {
            (self.each)(last);
        }
    }
}

impl Deref for Runs {
    type Target = [Run];

    fn deref(&self) -> &[Run] {
        &self.0
    }
}

impl IntoIterator for Runs {
    type Item = Run;
    type IntoIter = RunsIntoIter;

    fn into_iter(self) -> RunsIntoIter {
        RunsIntoIter(self.0.into_iter())
    }
}

impl<'a> IntoIterator for &'a Runs {
    type Item = &'a Run;
    type IntoIter = core::slice::Iter<'a, Run>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

/// The runs of a [`Runs`], by value.
#[derive(Clone, Debug)]
pub struct RunsIntoIter(smallvec::IntoIter<[Run; 4]>);

impl Iterator for RunsIntoIter {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for RunsIntoIter {
    fn next_back(&mut self) -> Option<Run> {
        self.0.next_back()
    }
}

impl ExactSizeIterator for RunsIntoIter {}
impl FusedIterator for RunsIntoIter {}
