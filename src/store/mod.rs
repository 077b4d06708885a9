//! Provides the memory of an area. Two implementations share one interface, and the code above them is the
//! same.
//!
//! - `flat`, with `std`: one map of address space for all entries, one for all cells, one for all bitmaps. The system makes
//!   their pages when they are first written. All addresses are valid, so an access is a pointer and an index.
//! - `paged`, without `std`: pages from a [`PageSource`](crate::PageSource), which are made when one of their slots is first
//!   written. Missing pages read as zeroes.
//!
//! | name | what |
//! | --- | --- |
//! | `Chunks` | the entries of an area |
//! | `InRegion` | the entries of a region: [`entry`], [`parts`], [`whole`] |
//! | `Cells`, `Usual`, `Row` | the cells of an area, together with its entries; two ways to the cells of a region |
//! | `Bits` | a bit for each counter and region; the cells of an area have them |
//! | `Array` | values that `swapon` makes and that stay: locks |
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
