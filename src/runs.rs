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
/// A slice of [`Run`]: it dereferences to one. Up to four are kept without an allocation.
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

    /// One more at the end, in one piece with the run before where they belong together.
    pub(crate) fn push(&mut self, run: Run) {
        match self.0.last_mut() {
            Some(last) if continues(last, &run) => last.len += run.len,
            _ => self.0.push(run),
        }
    }
}

/// Whether `next` goes on where `run` ends, with the same owner.
pub(crate) fn continues(run: &Run, next: &Run) -> bool {
    run.id == next.id && run.start.checked_add(run.len) == Some(next.start)
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
