//! The types of an image as a picture, and [`Cells`], from which pictures and text are made.

use image::RgbImage;
use swap_records::{MemcgId, SwapType};

use crate::picture::{Legend, Panel, paint};

/// Pixels of a panel, at most: 2048 x 2048.
const MOST_PIXELS: u64 = 1 << 22;
/// Slots of a chunk of the table, which is what a pixel of a large map stands for at least.
const CHUNK: u64 = 2048;

/// The most frequent owner of each cell, which is as many slots as another one. Takes 256 KiB, and what it gives.
#[derive(Debug)]
pub struct Cells {
    slots: u64,
    /// Of the cell in hand: its number, the slots of each id, and the ids that have any.
    at: u64,
    counts: Vec<u32>,
    found: Vec<u16>,
    done: Vec<(u64, MemcgId)>,
}

impl Cells {
    /// Cells of up to 2^32 - 1 slots.
    pub fn new(slots: u64) -> Self {
        Self {
            slots: slots.clamp(1, u32::MAX.into()),
            at: 0,
            counts: vec![0; usize::from(u16::MAX) + 1],
            found: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Slots of a cell.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// Adds slots that come after those before, with their ids.
    pub fn add(&mut self, mut start: u64, mut ids: &[u16]) {
        while !ids.is_empty() {
            if start / self.slots != self.at {
                self.end_cell();
                self.at = start / self.slots;
            }
            let rest = (self.at + 1) * self.slots - start;
            let len = usize::try_from(rest).unwrap_or(usize::MAX).min(ids.len());
            let (now, later) = ids.split_at(len);
            if let ([id], 1) = (now, self.slots) {
                self.done.extend(MemcgId::new(*id).map(|id| (start, id)));
            } else {
                self.count(now);
            }
            (start, ids) = (start + len as u64, later);
        }
    }

    fn count(&mut self, ids: &[u16]) {
        for &id in ids {
            let count = &mut self.counts[usize::from(id)];
            if *count == 0 {
                self.found.push(id);
            }
            *count += 1;
        }
    }

    fn end_cell(&mut self) {
        let mut most = None;
        for id in self.found.drain(..) {
            let count = std::mem::take(&mut self.counts[usize::from(id)]);
            // Of two that have as many, the lower id.
            let this = MemcgId::new(id).map(|id| (count, std::cmp::Reverse(id)));
            most = most.max(this);
        }
        let most = most.map(|(_, std::cmp::Reverse(id))| (self.at, id));
        self.done.extend(most);
    }

    /// The cells that have an owner, in order.
    pub fn end(mut self) -> Vec<(u64, MemcgId)> {
        self.end_cell();
        self.done
    }
}

/// Slots that a pixel of a type of this size stands for.
pub fn slots_of_pixel(pages: u64) -> u64 {
    if pages <= MOST_PIXELS {
        return 1;
    }
    pages.div_ceil(MOST_PIXELS).next_power_of_two().max(CHUNK)
}

/// A type that is drawn.
#[derive(Debug)]
pub struct Type {
    pub ty: SwapType,
    pub pages: u64,
    /// Slots of a pixel, and the pixels that have an owner.
    pub slots_of_pixel: u64,
    pub pixels: Vec<(u64, MemcgId)>,
}

/// Draws types, with these owners, largest first.
pub fn draw(types: Vec<Type>, owners: Vec<(MemcgId, u64)>) -> RgbImage {
    let legend = Legend::new(owners);
    let lines = legend.lines(|id| format!("id {id}"), "no record");
    let panels: Vec<_> = types.into_iter().map(panel).collect();
    paint(&panels, &legend, &lines)
}

fn panel(of: Type) -> Panel {
    let nr = of.pages.div_ceil(of.slots_of_pixel);
    // Nearly square, and a power of two wide, so that rows are round numbers of slots.
    let width = nr.isqrt().max(64).next_power_of_two();
    let pixels = |nr: u64| u32::try_from(nr).unwrap_or(u32::MAX);
    let unit = match of.slots_of_pixel {
        1 => "a slot".to_owned(),
        slots => format!("{slots} slots"),
    };
    Panel {
        title: format!("type {}: a pixel is {unit}, a row {width} pixels", of.ty),
        width: pixels(width),
        height: pixels(nr.div_ceil(width)),
        pixels: of.pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u16) -> MemcgId {
        MemcgId::new(id).unwrap()
    }

    #[test]
    fn a_cell_is_its_most_frequent_owners() {
        let mut cells = Cells::new(4);
        // As units come: in pieces that end anywhere, some without a record.
        cells.add(0, &[0, 0, 7]);
        cells.add(3, &[7, 9, 9]);
        cells.add(6, &[8, 8, 5, 6, 6, 5]);
        cells.add(20, &[0, 3]);
        // Where two have as many, the lower one.
        assert_eq!(
            cells.end(),
            [(0, id(7)), (1, id(8)), (2, id(5)), (5, id(3))]
        );
    }

    #[test]
    fn a_cell_of_a_slot_is_its_owner() {
        let mut cells = Cells::new(1);
        cells.add(10, &[0, 7, 9, 0]);
        assert_eq!(cells.end(), [(11, id(7)), (12, id(9))]);
    }

    #[test]
    fn pictures_have_a_limit() {
        for pages in [1, 2048, MOST_PIXELS, MOST_PIXELS + 1, 1 << 29, 1 << 50] {
            let slots = slots_of_pixel(pages);
            assert!(pages.div_ceil(slots) <= MOST_PIXELS, "{pages}");
        }
        assert_eq!(slots_of_pixel(MOST_PIXELS + 1), CHUNK);
    }

    #[test]
    fn a_picture_has_a_pixel_for_each_slot() {
        let of = Type {
            ty: SwapType::new(3).unwrap(),
            pages: 4096,
            slots_of_pixel: 1,
            pixels: vec![(65, id(7))],
        };
        let image = draw(vec![of], vec![(id(7), 1)]);
        let first = image
            .pixels()
            .filter(|pixel| pixel.0 == [255, 38, 38])
            .count();
        // The slot, and the square of 8 x 8 beside the legend.
        assert_eq!(first, 1 + 64);
    }
}
