//! [`Footprint`]: how much memory a table takes, and how much of it is resident.

use core::fmt;
use core::ops::Range;

use lock_api::RawMutex;

use crate::entry::{MAX_SWAPFILES, SwapType};
#[cfg(feature = "std")]
use crate::storage::{Slot, Zeroed};
use crate::table::SwapRecords;

/// An amount of memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
#[non_exhaustive]
pub struct Extent {
    /// Bytes in memory, in whole pages. With `std` on Linux, the number is what the system says. With `std`
    /// elsewhere, it equals `reserved`. Without `std`, it is the pages that were made.
    pub resident: u64,
    /// Bytes of address space.
    pub reserved: u64,
}

impl Extent {
    /// An extent of memory that is always resident.
    pub(crate) fn resident(bytes: usize) -> Self {
        let bytes = bytes as u64;
        Self {
            resident: bytes,
            reserved: bytes,
        }
    }

    #[cfg(feature = "std")]
    pub(crate) fn of<T: Slot>(memory: &Zeroed<T>) -> Self {
        Self {
            resident: memory.resident() as u64,
            reserved: size_of_val(&**memory) as u64,
        }
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.resident += other.resident;
        self.reserved += other.reserved;
    }
}

/// The memory that a table takes, by its purpose: see [`SwapRecords::footprint`].
///
/// The sum does not include the [`SwapRecords`] itself, which takes about 4 KiB.
///
/// More fields may be added. With the feature `serde`, missing fields are read as 0, and unknown fields are
/// ignored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
#[non_exhaustive]
pub struct Footprint {
    /// The records: 2 bytes per slot.
    pub table: Extent,
    /// The cells of the index: for each region and id, the number of records and the exclusive-or of their
    /// positions.
    pub cells: Extent,
    /// The presence bits and their count per region, and the notes of ids that share a counter.
    pub bitmaps: Extent,
    /// The locks of the regions.
    pub locks: Extent,
}

impl Footprint {
    /// Returns the sum of all fields.
    #[must_use]
    pub fn total(&self) -> Extent {
        self.table.and(self.cells).and(self.bitmaps).and(self.locks)
    }
}

impl<L: RawMutex> SwapRecords<L> {
    /// Returns the memory that the table takes on all types: how much is resident, and how much address space
    /// is reserved.
    ///
    /// A type keeps the address space of each size of swapfile that it ever had, even while it is off. So
    /// that space counts as reserved until the table is dropped. Pages that the system has swapped out are
    /// not resident. Pages that were only read count as resident, although the system may use one page of
    /// zeroes for all of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use swap_records::{SwapRecords, SwapType};
    ///
    /// let records = SwapRecords::new();
    /// assert_eq!(records.footprint().total().reserved, 0);
    /// records.swapon(SwapType::new(0).unwrap(), 1 << 20).unwrap();
    /// let footprint = records.footprint();
    /// // Without `std`, only what was written takes memory.
    /// assert!(footprint.table.reserved == 2 << 20 || cfg!(not(feature = "std")));
    /// println!("{footprint}");
    /// ```
    ///
    /// # Cost
    ///
    /// With `std` on Linux, the call asks the system about each reserved page (`mincore`), 1024 pages at a
    /// time. It takes about half a millisecond per GiB of table where pages are huge, and one millisecond
    /// where they are small. That is too much for a hot path. The call takes no lock and allocates nothing.
    ///
    /// Elsewhere it costs next to nothing: it adds up numbers that the table keeps.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        #[expect(clippy::cast_possible_truncation, reason = "MAX_SWAPFILES is 32")]
        let types = 0..MAX_SWAPFILES as u8;
        self.footprint_of(types)
    }

    /// Returns [`footprint`](Self::footprint) of one type, whether it is on or off.
    #[must_use]
    pub fn footprint_on(&self, ty: SwapType) -> Footprint {
        self.footprint_of(ty.get()..ty.get() + 1)
    }

    #[cfg_attr(not(feature = "std"), inline(never))]
    fn footprint_of(&self, types: Range<u8>) -> Footprint {
        let mut all = Footprint::default();
        for ty in types.filter_map(SwapType::new) {
            for area in self.file(ty).areas() {
                all.table.add(area.chunks().extent());
                area.regions.add_footprint(&mut all);
            }
        }
        all
    }
}

/// Writes the resident size and the reserved size, as in `1.5 MiB of 64.0 MiB`.
impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        size(f, self.resident)?;
        f.write_str(" of ")?;
        size(f, self.reserved)
    }
}

/// Writes one line: the total, and each part.
///
/// ```
/// let records = swap_records::SwapRecords::new();
/// assert_eq!(
///     records.footprint().to_string(),
///     "0 bytes of 0 bytes resident: table 0 bytes of 0 bytes, cells 0 bytes of 0 bytes, \
///      bitmaps 0 bytes of 0 bytes, locks 0 bytes of 0 bytes"
/// );
/// ```
impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            cells,
            bitmaps,
            locks,
        } = self;
        let total = self.total();
        write!(
            f,
            "{total} resident: table {table}, cells {cells}, bitmaps {bitmaps}, locks {locks}"
        )
    }
}

/// Writes a size in the largest unit that it has at least one of, with one decimal digit.
fn size(f: &mut fmt::Formatter<'_>, bytes: u64) -> fmt::Result {
    let mut units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter();
    let Some(power) = bytes
        .checked_ilog2()
        .map(|bits| bits / 10)
        .filter(|&power| power > 0)
    else {
        return write!(f, "{bytes} bytes");
    };
    let unit = units.nth(power as usize - 1).unwrap_or("EiB");
    let (whole, part) = (bytes >> (10 * power), bytes >> (10 * (power - 1)) & 1023);
    write!(f, "{whole}.{} {unit}", part * 10 / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn sizes_are_written_in_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            let extent = Extent {
                resident: bytes,
                reserved: 1 << 40,
            };
            assert_eq!(extent.to_string(), alloc::format!("{text} of 1.0 TiB"));
        }
    }
}
