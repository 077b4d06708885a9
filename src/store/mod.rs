//! What the memory of an area is made of. There are two implementations of one interface, and the code above it is the same.
//!
//! - `flat`, with `std`: one map of address space for all entries, one for all cells, one for all bitmaps. The system makes
//!   their pages when they are first written. Everything is there, so an access is a pointer and an index.
//! - `paged`, without `std`: pages from a [`PageSource`](crate::PageSource), which are made when a slot of theirs is first
//!   written. What is not there reads as zeroes.
//!
//! | name | what |
//! | --- | --- |
//! | `Chunks` | the entries of an area |
//! | `InRegion` | those of a region: [`entry`], [`parts`], [`whole`] |
//! | `Cells`, `Usual`, `Row` | the cells of an area, which has its entries, too; ways to those of a region |
//! | `Bits` | a bit for each counter and region; the cells of an area have them |
//! | `Array` | what is made by `swapon` and stays: locks |
//! | `Notes` | the bits of [`Shared`](crate::shared::Shared) |

#[cfg(feature = "std")]
mod flat;
#[cfg(feature = "std")]
pub(crate) use flat::*;

#[cfg(not(feature = "std"))]
mod array;
#[cfg(not(feature = "std"))]
mod bits;
#[cfg(not(feature = "std"))]
mod cells;
#[cfg(not(feature = "std"))]
mod paged;
#[cfg(not(feature = "std"))]
mod place;
#[cfg(not(feature = "std"))]
pub(crate) use {
    array::{Array, Notes},
    cells::{Cells, Row, Usual},
    paged::{Chunks, InRegion, entry, parts, whole},
};
