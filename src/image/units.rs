//! [`Reader::units`]: an image piece by piece, for what needs neither a table nor a map.

use core::fmt;
use core::iter::FusedIterator;
use std::vec::Vec;

use super::error::ImageError;
use super::format::{TypeAt, UNIT};
use super::read::Reader;
use super::source::Index;
use crate::entry::SwapEntry;
use crate::scan::Backend;

/// A part of an image: up to 32,768 slots of a type, which have one checksum.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Unit {
    /// The first slot.
    pub start: SwapEntry,
    /// How many slots of the swapfile it has, at least 1.
    pub len: u64,
    /// How many of them have a record, as the image says. [`Reader::read_ids`] checks that.
    pub records: u64,
    /// Where its ids begin, in bytes of the image.
    pub offset: u64,
    /// How many bytes of the image it is, with the zeros that fill its last page up.
    pub bytes: u64,
}

impl Reader<'_> {
    /// The units of the image, lowest type first, in the order of their slots. Reads nothing.
    ///
    /// ```
    /// use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType, image};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ty = SwapType::new(0).unwrap();
    /// # let records = SwapRecords::new();
    /// # records.swapon(ty, 100_000)?;
    /// # records.record_range(SwapEntry::new(ty, 40_000).unwrap(), 512, MemcgId::new(7).unwrap())?;
    /// # let mut bytes = Vec::new();
    /// # image::write_to(&records, &mut bytes)?;
    /// let reader = image::Reader::of(&bytes)?;
    /// let (mut ids, mut tally) = (Vec::new(), image::Tally::new()?);
    /// for unit in reader.units() {
    ///     tally.add(reader.read_ids(unit, &mut ids)?);
    /// }
    /// assert_eq!(tally.count(MemcgId::new(7).unwrap()), 512);
    /// # Ok(())
    /// # }
    /// ```
    pub fn units(&self) -> Units<'_> {
        Units {
            index: self.index(),
            at: 0,
            unit: 0,
        }
    }

    /// The unit that this slot is in. `None` where it lies outside of its swapfile, or its type is not in the image.
    #[must_use]
    pub fn unit_of(&self, ent: SwapEntry) -> Option<Unit> {
        let of = self.index().type_at(ent.swap_type())?;
        let inside = ent.offset() < of.max_pages;
        let unit = ent.offset() / UNIT as u64;
        inside.then(|| Unit::new(self.index(), of, unit)).flatten()
    }

    /// Whether both images have the same tree of cgroups, in the same order, or neither has one.
    #[must_use]
    pub fn same_tree(&self, other: &Reader<'_>) -> bool {
        self.index().tree == other.index().tree
    }

    /// Reads the ids of a unit into `ids`, and checks them. Gives one for each slot, 0 for a slot without a record; and
    /// none at all where the unit has no record.
    ///
    /// What was in `ids` is written over; after the first call it has room for any unit, 64 KiB. Units may be read in
    /// any order, and on several threads.
    ///
    /// # Errors
    ///
    /// [`ImageError`]: the file cannot be read, or says something else than what was written.
    pub fn read_ids<'i>(&self, unit: Unit, ids: &'i mut Vec<u16>) -> Result<&'i [u16], ImageError> {
        let of = self.index().type_at(unit.start.swap_type());
        let nth = unit.start.offset() / UNIT as u64;
        let Some(of) = of.filter(|of| nth < of.units()) else {
            return Ok(&[]);
        };
        if ids.len() < UNIT {
            let refused = |_| ImageError::OutOfMemory {
                bytes: UNIT * size_of::<u16>(),
            };
            ids.try_reserve_exact(UNIT - ids.len()).map_err(refused)?;
            ids.resize(UNIT, 0);
        }
        let ids = self.read_unit(Backend::detect(), (of, nth), ids)?;
        if self.index().unit(of, nth).1 == 0 {
            return Ok(&[]);
        }
        if cfg!(target_endian = "big") {
            ids.iter_mut().for_each(|id| *id = u16::from_le(*id));
        }
        Ok(&ids[..of.ids_in(nth).0])
    }
}

/// The units of an image: see [`Reader::units`]. Allocates nothing.
#[derive(Clone)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Units<'r> {
    index: &'r Index,
    /// The type that is being walked, of those of the image, and the unit of it that comes next.
    at: usize,
    unit: u64,
}

impl Unit {
    fn new(index: &Index, of: &TypeAt, unit: u64) -> Option<Self> {
        let (len, padded) = of.ids_in(unit);
        Some(Self {
            start: SwapEntry::new(of.ty, unit * UNIT as u64)?,
            len: len as u64,
            records: index.unit(of, unit).1.into(),
            offset: of.offset_of(unit),
            bytes: (padded * size_of::<u16>()) as u64,
        })
    }
}

impl Iterator for Units<'_> {
    type Item = Unit;

    fn next(&mut self) -> Option<Unit> {
        loop {
            let of = self.index.layout.types.get(self.at)?;
            if self.unit < of.units() {
                self.unit += 1;
                return Unit::new(self.index, of, self.unit - 1);
            }
            (self.at, self.unit) = (self.at + 1, 0);
        }
    }
}

impl FusedIterator for Units<'_> {}

/// Writes where it is.
impl fmt::Debug for Units<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ty = self.index.layout.types.get(self.at).map(|of| of.ty);
        f.debug_struct("Units")
            .field("ty", &ty)
            .field("unit", &self.unit)
            .finish_non_exhaustive()
    }
}
