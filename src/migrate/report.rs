//! What a migration reports: [`Migrated`] and [`Step`].

use core::fmt;

use crate::region::Sweep;

/// The report of a [`Migration`](crate::Migration).
///
/// More fields may be added. With the feature `serde`, missing fields are read as 0, and unknown fields are
/// ignored, so that reports of other versions can be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
#[non_exhaustive]
pub struct Migrated {
    /// The number of records that were moved from the old owner to the new one.
    pub moved: u64,
    /// The number of chunks of [`CHUNK_ENTRIES`](crate::CHUNK_ENTRIES) in which at least one entry was looked at.
    pub chunks_scanned: u64,
    /// The number of chunks in which no entry was looked at, because the index or the hint made that
    /// unnecessary.
    pub chunks_skipped: u64,
    /// The highest number of entries that were looked at under one hold of a lock. At most
    /// [`REGION_ENTRIES`](crate::REGION_ENTRIES), or what [`max_hold`](crate::Migration::max_hold) asked for. It
    /// is a number of entries, not a time.
    pub longest_hold: u64,
    /// Whether the hint stopped the migration before it reached the end of the table.
    pub stopped_by_hint: bool,
    /// An upper bound of the records that the old owner has at the end of the migration: its
    /// [`count_upper_bound`](crate::SwapRecords::count_upper_bound).
    ///
    /// It is 0 if all of the following hold:
    ///
    /// - The migration reached the end of the table.
    /// - No thread recorded the old id or migrated to it in the meantime.
    /// - No other id shares its counter, or without `std` its cell ([`reserve`](crate::SwapRecords::reserve)).
    ///
    /// If another id shares one of them, [`count`](crate::SwapRecords::count) returns the exact number. It scans the
    /// regions where an id of the counter may have records.
    pub left_at_most: u64,
}

impl Migrated {
    /// Adds the report of another thread.
    #[cfg(feature = "std")]
    pub(super) fn include(&mut self, part: &Self) {
        self.moved += part.moved;
        self.chunks_scanned += part.chunks_scanned;
        self.longest_hold = self.longest_hold.max(part.longest_hold);
    }

    /// Adds a region, or a part of one.
    pub(super) fn add(&mut self, sweep: &Sweep) {
        self.moved += u64::from(sweep.found.count);
        self.chunks_scanned += u64::from(sweep.chunks);
        self.longest_hold = self.longest_hold.max(u64::from(sweep.entries));
    }
}

/// Writes one line: the fields, in the order of their declaration.
///
/// ```
/// # let records: swap_records::SwapRecords = swap_records::SwapRecords::new();
/// # let (old, new) = (swap_records::MemcgId::MIN, swap_records::MemcgId::MAX);
/// let migrated = records.migration(old, new).run();
/// assert_eq!(
///     migrated.to_string(),
///     "0 records moved, 0 chunks scanned, 0 chunks skipped, longest hold 0 entries, \
///      stopped at the end of the table, at most 0 records left"
/// );
/// ```
impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            moved,
            chunks_scanned,
            chunks_skipped,
            longest_hold,
            stopped_by_hint,
            left_at_most,
        } = self;
        let by = if *stopped_by_hint {
            "by the hint"
        } else {
            "at the end of the table"
        };
        write!(
            f,
            "{moved} records moved, {chunks_scanned} chunks scanned, {chunks_skipped} chunks skipped, longest hold \
             {longest_hold} entries, stopped {by}, at most {left_at_most} records left"
        )
    }
}

/// The result of a [`step`](crate::Migration::step) of a [`Migration`](crate::Migration).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use]
pub enum Step {
    /// The step used its budget. There may be more records to move.
    More,
    /// The migration is finished: it reached the end of the table, or the hint says that nothing is left.
    Done(Migrated),
}
