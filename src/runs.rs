//! [`Runs`]: the previous owners of a range.

use core::fmt;
use core::iter::FusedIterator;
use core::ops::Deref;

use smallvec::SmallVec;

use crate::entry::{Run, SwapEntry};
use crate::id::MemcgId;

/// Runs of slots with one owner each, in the order of their offsets.
///
/// Slots without a record are in no run. Two runs that touch have different owners. The type dereferences to
/// a slice of [`Run`].
///
/// # Memory
///
/// Up to four runs are kept without an allocation. To get any number of runs without an allocation, pass a
/// callback to [`clear_range_with`](crate::SwapRecords::clear_range_with) or
/// [`record_range_with`](crate::SwapRecords::record_range_with).
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Runs(SmallVec<[Run; 4]>);

impl Runs {
    /// Makes the runs of `len` slots that have one owner. 0 stands for none.
    #[inline]
    pub(crate) fn of(start: SwapEntry, len: u64, owner: u16) -> Self {
        let mut runs = SmallVec::new();
        if let Some(id) = MemcgId::new(owner) {
            runs.push(Run { start, len, id });
        }
        Self(runs)
    }

    /// Makes room for this number of runs. The error is the number of bytes that were refused.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn with_room(nr: u64) -> Result<Self, usize> {
        let mut runs = SmallVec::new();
        let room = usize::try_from(nr).unwrap_or(usize::MAX);
        match runs.try_reserve_exact(room) {
            Ok(()) => Ok(Self(runs)),
            Err(_) => Err(room.saturating_mul(size_of::<Run>())),
        }
    }

    /// Gives back the room for runs that did not come, if the smaller allocation succeeds.
    pub(crate) fn fit(&mut self) {
        if !self.0.spilled() || self.0.capacity() / 2 < self.0.len() {
            return;
        }
        if let Ok(mut runs) = Self::with_room(self.0.len() as u64) {
            self.0.iter().for_each(|&run| runs.push(run));
            *self = runs;
        }
    }

    /// Adds a run at the end, joined to the last one if it continues it. There must be
    /// [room](Self::with_room) for it. The check of the capacity lets the compiler leave out the code that
    /// would grow the vector.
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

/// Returns whether `next` begins where `run` ends, with the same owner.
pub(crate) fn continues(run: &Run, next: &Run) -> bool {
    run.id == next.id && run.start.checked_add(run.len) == Some(next.start)
}

/// Passes runs on to a callback, and joins those that touch and have one owner.
pub(crate) struct Joined<F> {
    /// The run that the next one may continue.
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

    /// Passes the last run on.
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

/// An iterator that moves out of a [`Runs`].
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
