//! Draws the types of an image, and finds the most frequent owner of each cell: [`Cells`].

use image::RgbImage;
use swap_records::{MemcgId, SwapType};

use crate::picture::{Legend, Panel, paint};

/// The largest number of pixels of a panel: 2048 x 2048.
const MOST_PIXELS: u64 = 1 << 22;
/// The slots of a chunk of the table. A pixel of a large map stands for at least as many.
const CHUNK: u64 = 2048;

/// Finds the most frequent owner of each cell. All cells have the same number of slots. Takes 256 KiB, and
/// the memory of the result.
#[derive(Debug)]
pub struct Cells {
    slots: u64,
    /// The current cell: its number, the slots of each id, and the ids that have slots.
    at: u64,
    counts: Vec<u32>,
    found: Vec<u16>,
    done: Vec<(u64, MemcgId)>,
}

impl Cells {
    /// Creates cells of `slots` slots each, up to 2^32 - 1.
    pub fn new(slots: u64) -> Self {
        Self {
            slots: slots.clamp(1, u32::MAX.into()),
            at: 0,
            counts: vec![0; usize::from(u16::MAX) + 1],
            found: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Returns the slots per cell.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// Adds slots with their ids. They must follow the slots that were added before.
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
            // The lower of two ids with the same number of slots.
            let this = MemcgId::new(id).map(|id| (count, std::cmp::Reverse(id)));
            most = most.max(this);
        }
        let most = most.map(|(_, std::cmp::Reverse(id))| (self.at, id));
        self.done.extend(most);
    }

    /// Returns the cells that have an owner, in order.
    pub fn end(mut self) -> Vec<(u64, MemcgId)> {
        self.end_cell();
        self.done
    }
}

/// Returns the slots per pixel for a type of this size.
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
    /// The slots per pixel, and the pixels that have an owner.
    pub slots_of_pixel: u64,
    pub pixels: Vec<(u64, MemcgId)>,
}

/// Draws types. `owners` are largest first.
pub fn draw(types: Vec<Type>, owners: Vec<(MemcgId, u64)>) -> RgbImage {
    let legend = Legend::new(owners);
    let lines = legend.lines(|id| format!("id {id}"), "no record");
    let panels: Vec<_> = types.into_iter().map(panel).collect();
    paint(&panels, &legend, &lines)
}

fn panel(of: Type) -> Panel {
    let nr = of.pages.div_ceil(of.slots_of_pixel);
    // Nearly square. The width is a power of two, so a row is a round number of slots.
    let width = nr.isqrt().max(64).next_power_of_two();
    let pixels = |nr: u64| u32::try_from(nr).unwrap_or(u32::MAX);
    let unit = match of.slots_of_pixel {
        1 => "slot".to_owned(),
        slots => format!("{slots} slots"),
    };
    Panel {
        title: format!(
            "type {}: 1 pixel per {unit}, {} slots per row",
            of.ty,
            width * of.slots_of_pixel
        ),
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
    fn a_cell_gets_its_most_frequent_owner() {
        let mut cells = Cells::new(4);
        // Pieces that end anywhere, and slots without a record.
        cells.add(0, &[0, 0, 7]);
        cells.add(3, &[7, 9, 9]);
        cells.add(6, &[8, 8, 5, 6, 6, 5]);
        cells.add(20, &[0, 3]);
        // Of two owners with the same number of slots, the lower one.
        assert_eq!(
            cells.end(),
            [(0, id(7)), (1, id(8)), (2, id(5)), (5, id(3))]
        );
    }

    #[test]
    fn a_cell_of_one_slot_gets_its_owner() {
        let mut cells = Cells::new(1);
        cells.add(10, &[0, 7, 9, 0]);
        assert_eq!(cells.end(), [(11, id(7)), (12, id(9))]);
    }

    #[test]
    fn a_picture_has_at_most_4_mi_pixels() {
        for pages in [1, 2048, MOST_PIXELS, MOST_PIXELS + 1, 1 << 29, 1 << 50] {
            let slots = slots_of_pixel(pages);
            assert!(pages.div_ceil(slots) <= MOST_PIXELS, "{pages}");
        }
        assert_eq!(slots_of_pixel(MOST_PIXELS + 1), CHUNK);
    }

    #[test]
    fn the_title_of_a_type_has_the_slots_of_a_pixel_and_of_a_row() {
        let title = |pages| {
            panel(Type {
                ty: SwapType::new(3).unwrap(),
                pages,
                slots_of_pixel: slots_of_pixel(pages),
                pixels: Vec::new(),
            })
            .title
        };
        assert_eq!(title(4096), "type 3: 1 pixel per slot, 64 slots per row");
        let large = "type 3: 1 pixel per 2048 slots, 131072 slots per row";
        assert_eq!(title(MOST_PIXELS + 1), large);
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
        // The slot, and the square of 8 x 8 in the legend.
        assert_eq!(first, 1 + 64);
    }
}
