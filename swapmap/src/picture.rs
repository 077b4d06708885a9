//! Draws the swapfiles as a picture: a panel each, and one legend.

use std::collections::HashMap;

use font8x8::{BASIC_FONTS, UnicodeFonts};
use image::{Rgb, RgbImage};
use swap_records::{MemcgId, SwapRecords, SwapType};

use crate::names::printable;
use crate::reading::Reading;
use crate::report::{owners_of_all, type_of};

/// The slots of a chunk of the table.
const CHUNK: u64 = 2048;
/// A swapfile of up to this many slots has a pixel per slot: 2048 x 2048 pixels, 16 GiB.
const MOST_PIXELS: u64 = 1 << 22;
/// The number of colours. More colours look alike.
const COLOURS: usize = 48;
/// Characters per line of text. Longer lines are cut.
const LINE: usize = 120;

const GLYPH: u32 = 8;
const LINE_HEIGHT: u32 = 12;
const MARGIN: u32 = 12;

const PAPER: Rgb<u8> = Rgb([52, 54, 60]);
const TEXT: Rgb<u8> = Rgb([230, 230, 230]);
const EMPTY: Rgb<u8> = Rgb([12, 12, 14]);
const OTHERS: Rgb<u8> = Rgb([140, 140, 140]);

/// The owners of all types, largest first, and their colours.
pub(crate) struct Legend {
    pub(crate) owners: Vec<(MemcgId, u64)>,
    colours: HashMap<MemcgId, Rgb<u8>>,
}

impl Legend {
    /// Gives colours to owners, which must be largest first.
    pub(crate) fn new(owners: Vec<(MemcgId, u64)>) -> Self {
        let colours = owners
            .iter()
            .take(COLOURS)
            .enumerate()
            .map(|(rank, &(id, _))| (id, colour(rank)))
            .collect();
        Self { owners, colours }
    }

    fn colour(&self, id: MemcgId) -> Rgb<u8> {
        self.colours.get(&id).copied().unwrap_or(OTHERS)
    }

    /// Returns the colour and the text of each line. `none` is the text for slots without an owner.
    pub(crate) fn lines(
        &self,
        name: impl Fn(MemcgId) -> String,
        none: &str,
    ) -> Vec<(Rgb<u8>, String)> {
        let (named, others) = self.owners.split_at(self.owners.len().min(COLOURS));
        let mut lines: Vec<_> = named
            .iter()
            .map(|&(id, slots)| (self.colour(id), format!("{slots:>10}  {}", name(id))))
            .collect();
        if !others.is_empty() {
            let slots: u64 = others.iter().map(|&(_, slots)| slots).sum();
            let text = format!("{slots:>10}  {} other cgroups", others.len());
            lines.push((OTHERS, text));
        }
        lines.push((EMPTY, format!("{:>10}  {none}", "")));
        lines
    }
}

/// The pixels of one swapfile.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) pixels: Vec<(u64, MemcgId)>,
}

impl Panel {
    fn new(reading: &Reading, name: &str, ty: Option<SwapType>, max_pages: u64) -> Self {
        let by_slot = max_pages <= MOST_PIXELS;
        let pixels = match ty {
            Some(ty) if by_slot => slots(&reading.records, ty),
            Some(ty) => chunks(&reading.records, ty),
            None => Vec::new(),
        };
        let (unit, slots, nr) = if by_slot {
            ("slot", 1, max_pages)
        } else {
            ("chunk of 2048 slots", CHUNK, max_pages.div_ceil(CHUNK))
        };
        // Nearly square. The width is a power of two, so a row is a round number of slots.
        let width = nr.isqrt().max(64).next_power_of_two();
        let pixel = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            title: format!(
                "{name}: 1 pixel per {unit}, {} slots per row",
                width * slots
            ),
            width: pixel(width),
            height: pixel(nr.div_ceil(width)),
            pixels,
        }
    }

    fn draw(&self, image: &mut RgbImage, top: u32, legend: &Legend) {
        let width = u64::from(self.width);
        let spot = |nr: u64| {
            let y = u32::try_from(nr / width).ok()?.checked_add(top)?;
            let x = u32::try_from(nr % width).ok()? + MARGIN;
            Some((x, y))
        };
        fill(image, (MARGIN, top), (self.width, self.height), EMPTY);
        for &(nr, id) in &self.pixels {
            // A slot past the end that /proc/swaps shows has no pixel.
            if nr < width * u64::from(self.height)
                && let Some((x, y)) = spot(nr)
            {
                put(image, x, y, legend.colour(id));
            }
        }
    }
}

/// Draws all swapfiles.
pub fn draw(reading: &Reading) -> RgbImage {
    let legend = Legend::new(owners_of_all(reading));
    let name = |id| printable(reading.memcgs.path(id));
    let lines = legend.lines(name, "empty, or no owner found");
    let mut panels: Vec<Panel> = reading
        .swapfiles
        .iter()
        .enumerate()
        .map(|(line, file)| {
            let ty = type_of(reading, line);
            Panel::new(reading, &printable(&file.name), ty, file.max_pages)
        })
        .collect();
    let unnamed = |ty: &SwapType| {
        !(0..reading.swapfiles.len()).any(|line| type_of(reading, line) == Some(*ty))
    };
    for &ty in reading.names.keys().filter(|ty| unnamed(ty)) {
        let max_pages = reading.records.max_pages(ty).unwrap_or(1);
        let name = format!("swap type {ty}");
        panels.push(Panel::new(reading, &name, Some(ty), max_pages));
    }

    paint(&panels, &legend, &lines)
}

/// Returns the heading of the legend.
fn heading() -> String {
    format!("{:>10}  owner", "slots")
}

/// Draws these panels, and the legend below them.
pub(crate) fn paint(panels: &[Panel], legend: &Legend, lines: &[(Rgb<u8>, String)]) -> RgbImage {
    let text = |text: &str| GLYPH * u32::try_from(text.chars().count().min(LINE)).unwrap_or(0);
    let widest_panel = panels
        .iter()
        .map(|panel| panel.width.max(text(&panel.title)));
    let texts = lines.iter().map(|(_, line)| line.as_str());
    let heading = heading();
    let widest_line = texts
        .chain([heading.as_str()])
        .map(|line| text(line) + 2 * GLYPH);
    let width = widest_panel.chain(widest_line).max().unwrap_or(0) + 2 * MARGIN;
    let heights = panels
        .iter()
        .map(|panel| panel.height + LINE_HEIGHT + MARGIN);
    // One line more: the heading.
    let legend_height = LINE_HEIGHT * u32::try_from(lines.len() + 1).unwrap_or(0);
    let height = heights.sum::<u32>() + legend_height + 2 * MARGIN;

    let mut image = RgbImage::from_pixel(width, height, PAPER);
    let mut top = MARGIN;
    for panel in panels {
        write(&mut image, (MARGIN, top), &panel.title);
        top += LINE_HEIGHT;
        panel.draw(&mut image, top, legend);
        top += panel.height + MARGIN;
    }
    write(&mut image, (MARGIN + 2 * GLYPH, top), &heading);
    top += LINE_HEIGHT;
    for (colour, line) in lines {
        fill(&mut image, (MARGIN, top), (GLYPH, GLYPH), *colour);
        write(&mut image, (MARGIN + 2 * GLYPH, top), line);
        top += LINE_HEIGHT;
    }
    image
}

fn slots(records: &SwapRecords, ty: SwapType) -> Vec<(u64, MemcgId)> {
    records
        .runs(ty)
        .flat_map(|run| {
            let start = run.start.offset();
            (start..start + run.len).map(move |slot| (slot, run.id))
        })
        .collect()
}

/// Returns every chunk that has an owner, and its most frequent owner.
fn chunks(records: &SwapRecords, ty: SwapType) -> Vec<(u64, MemcgId)> {
    let mut pixels = Vec::new();
    let mut chunk = 0;
    let mut owners: HashMap<MemcgId, u64> = HashMap::new();
    let mut finish = |chunk: u64, owners: &mut HashMap<MemcgId, u64>| {
        let most = owners
            .drain()
            .max_by_key(|&(id, slots)| (slots, std::cmp::Reverse(id)));
        pixels.extend(most.map(|(id, _)| (chunk, id)));
    };
    for run in records.runs(ty) {
        let (mut at, end) = (run.start.offset(), run.start.offset() + run.len);
        while at < end {
            if at / CHUNK != chunk {
                finish(chunk, &mut owners);
                chunk = at / CHUNK;
            }
            let next = end.min((chunk + 1) * CHUNK);
            *owners.entry(run.id).or_default() += next - at;
            at = next;
        }
    }
    finish(chunk, &mut owners);
    pixels
}

/// Returns the colour of a rank. Hues are a golden angle apart, so neighbours in rank always differ. Every
/// third colour is darker and every third one paler, because hues alone become alike after a few.
fn colour(rank: usize) -> Rgb<u8> {
    #[expect(clippy::cast_precision_loss, reason = "ranks are below COLOURS")]
    let hue = (rank as f32 * 0.618_034).fract() * 6.0;
    let (saturation, value) = [(0.85, 1.0), (0.9, 0.65), (0.4, 1.0)][rank % 3];
    let channel = |shift: f32| {
        let k = (shift + hue) % 6.0;
        let level = value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a level is between 0 and 1"
        )]
        let byte = (level * 255.0) as u8;
        byte
    };
    Rgb([channel(5.0), channel(3.0), channel(1.0)])
}

fn put(image: &mut RgbImage, x: u32, y: u32, colour: Rgb<u8>) {
    if let Some(pixel) = image.get_pixel_mut_checked(x, y) {
        *pixel = colour;
    }
}

fn fill(image: &mut RgbImage, (x, y): (u32, u32), (w, h): (u32, u32), colour: Rgb<u8>) {
    for dy in 0..h {
        for dx in 0..w {
            put(image, x + dx, y + dy, colour);
        }
    }
}

fn write(image: &mut RgbImage, (x, y): (u32, u32), text: &str) {
    let cut = text.chars().count() > LINE;
    let shown = text.chars().take(if cut { LINE - 2 } else { LINE });
    let tail = if cut { ".." } else { "" };
    for (x, c) in (x..).step_by(GLYPH as usize).zip(shown.chain(tail.chars())) {
        let glyph = BASIC_FONTS.get(c).or_else(|| BASIC_FONTS.get('?'));
        for (y, row) in (y..).zip(glyph.unwrap_or_default()) {
            for (x, bit) in (x..).zip(0..GLYPH) {
                if row >> bit & 1 == 1 {
                    put(image, x, y, TEXT);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use swap_records::SwapEntry;

    #[test]
    fn a_chunk_has_the_colour_of_its_most_frequent_owner() {
        let records = SwapRecords::new();
        let ty = SwapType::new(2).unwrap();
        let [a, b] = [1, 2].map(|id| MemcgId::new(id).unwrap());
        records.swapon(ty, 10 * CHUNK).unwrap();
        let record = |offset: u64, nr: u64, id: MemcgId| {
            let entry = SwapEntry::new(ty, offset).unwrap();
            records.record_range(entry, nr, id).unwrap();
        };
        record(1, 3, b);
        record(7, 2, a);
        // From chunk 3 over 4 into 5, where `b` has more slots.
        record(4 * CHUNK - 5, CHUNK + 10, a);
        record(5 * CHUNK + 100, 6, b);
        assert_eq!(chunks(&records, ty), [(0, b), (3, a), (4, a), (5, b)]);
        assert_eq!(slots(&records, ty).len(), 5 + 2058 + 6);
        assert_eq!(slots(&records, ty)[..2], [(1, b), (2, b)]);
    }

    #[test]
    fn colours_differ() {
        let mut colours: Vec<_> = (0..COLOURS).map(|rank| colour(rank).0).collect();
        colours.push(EMPTY.0);
        colours.push(OTHERS.0);
        colours.sort_unstable();
        colours.dedup();
        assert_eq!(colours.len(), COLOURS + 2);
    }
}
