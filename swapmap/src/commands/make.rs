//! `swapmap make`: writes an image of a synthetic map.

use std::str::FromStr;

use swap_records::image::IdsWriter;
use swap_records::{MemcgId, SwapEntry, SwapType};
use swap_records_sim::{Family, Map, REGION};

use super::reparent::{say, write};
use super::some;
use crate::cli::{FamilyName, MakeArgs};
use crate::failure::{Answer, Failure};
use crate::output::Destination;
use crate::progress::Progress;

/// Bytes of swap per slot.
const PAGE: u64 = 4096;

/// The slots of a swapfile, parsed from a number of slots, `1000000`, or bytes of swap with a unit, `4GiB`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let shift = match unit {
            "" => None,
            "KiB" | "K" => Some(10),
            "MiB" | "M" => Some(20),
            "GiB" | "G" => Some(30),
            "TiB" | "T" => Some(40),
            "PiB" | "P" => Some(50),
            _ => {
                return Err(
                    "give a number of slots, or bytes of swap with KiB, MiB, GiB, TiB or PiB, such as 4GiB"
                        .to_owned(),
                );
            }
        };
        let number: Option<u64> = number.parse().ok();
        let slots = number.and_then(|number| match shift {
            None => Some(number),
            Some(shift) => Some(number.checked_mul(1 << shift)? / PAGE),
        });
        match slots {
            Some(slots @ 1..=MOST) => Ok(Self(slots)),
            _ => Err(format!(
                "a swapfile has 1 to {MOST} slots, each of which is 4 KiB of swap"
            )),
        }
    }
}

const MOST: u64 = SwapEntry::MAX_OFFSET + 1;

/// The most turnovers per slot. A signal stops a write between two units, and one unit of 32,768 slots with so
/// many turnovers takes about a second. More do not change what a map looks like.
const MOST_TURNOVERS: u64 = 1000;

/// The remaining records of an id, parsed from `ID:SLOTS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Remains {
    pub(crate) id: MemcgId,
    pub(crate) slots: u64,
}

impl FromStr for Remains {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let remains = text.split_once(':').and_then(|(id, slots)| {
            Some(Self {
                id: id.parse().ok()?,
                slots: slots.parse().ok()?,
            })
        });
        remains.ok_or_else(|| {
            "give an id from 1 to 65535 and a number of slots, such as 151:1000".to_owned()
        })
    }
}

fn family(args: &MakeArgs) -> Result<Family, Failure> {
    let fixed = |family: Family| match args.owners {
        None => Ok(family),
        Some(_) => Err(Failure::Usage(format!(
            "maps of the family {family} have {} owners: leave --owners out, or use the family interleaved",
            family.highest_id()
        ))),
    };
    match args.family {
        FamilyName::Interleaved => {
            let owners = args.owners.map_or(150, MemcgId::get);
            Ok(Family::Interleaved(owners))
        }
        FamilyName::Jobs => fixed(Family::Jobs),
        FamilyName::Uniform => fixed(Family::Uniform),
    }
}

pub(crate) fn run(args: &MakeArgs) -> Result<Answer, Failure> {
    let family = family(args)?;
    let left: u64 = args
        .remains
        .iter()
        .fold(0, |sum, remains| sum.saturating_add(remains.slots));
    let mut maps = Vec::new();
    for (at, size) in (0_u8..).zip(&args.size) {
        let Some(ty) = SwapType::new(at) else {
            return Err(Failure::Usage(format!(
                "--size was given {} times: there are at most 32 swap types",
                args.size.len()
            )));
        };
        let slots = size.0;
        if left > slots {
            return Err(Failure::Usage(format!(
                "--remains asks for {left} slots of each swap type, and type {ty} has {slots}: ask for fewer, \
                 or give a larger --size"
            )));
        }
        if args.turnovers > slots.saturating_mul(MOST_TURNOVERS) {
            return Err(Failure::Usage(format!(
                "--turnovers asks for {} of each swap type, and type {ty} has {slots}: ask for at most \
                 {MOST_TURNOVERS} per slot",
                args.turnovers,
            )));
        }
        let seed = args.seed.wrapping_add(at.into());
        let map = Map::new(family, slots, seed).aged(args.turnovers);
        let map = args.remains.iter().fold(map, |map, remains| {
            map.remains(remains.id.get(), remains.slots)
        });
        maps.push((ty, map));
    }
    let to = Destination::new(&args.output, &[])?;
    let regions: Vec<_> = maps.iter().map(|(_, map)| map.regions()).collect();
    let types = maps.iter().map(|(ty, map)| (*ty, map.slots()));
    let slots: u64 = types.clone().map(|(_, slots)| slots).sum();
    let writer = IdsWriter::new(types).map_err(|error| Failure::Usage(error.to_string()))?;
    let progress = Progress::new(format!("making {}", to.name()), slots * 2);
    write(
        &writer.threads(swap_records_sim::threads()),
        &to,
        |start, ids| {
            // Types are numbered in the order of their sizes on the command line. A unit of an image is a
            // region of a map.
            let regions = &regions[usize::from(start.swap_type())];
            regions.fill(start.offset() / REGION, ids);
            progress.add(ids.len() as u64 * 2);
            Ok(())
        },
        to.path(),
    )?;
    drop(progress);
    let types = some(maps.len() as u64, "swap type");
    let slots = some(slots, "slot");
    say(&to, &format!("{slots} in {types}: {}", to.name()))?;
    Ok(Answer::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_slots_or_bytes_of_swap() {
        let slots = |text: &str| text.parse::<Size>().map(|size| size.0);
        for (text, expected) in [
            ("1", 1),
            ("65536", 65_536),
            ("8KiB", 2),
            ("4GiB", 1 << 20),
            ("4G", 1 << 20),
            ("2TiB", 1 << 29),
            ("4096PiB", MOST),
        ] {
            assert_eq!(slots(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "1KiB",
            "-1",
            "4GB",
            "4 GiB",
            "GiB",
            "1.5GiB",
            "4097PiB",
            "99999999999999999999",
            "99999999999PiB",
        ] {
            assert!(slots(text).is_err(), "{text}");
        }
    }

    #[test]
    fn remains_are_an_id_and_slots() {
        let remains = "151:1000".parse::<Remains>().unwrap();
        assert_eq!((remains.id.get(), remains.slots), (151, 1000));
        for text in ["", "151", "0:5", "65536:5", "5:", ":5", "5:-1"] {
            assert!(text.parse::<Remains>().is_err(), "{text}");
        }
    }
}
