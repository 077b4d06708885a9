//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use swap_records::MemcgId;

use crate::commands::make::{Remains, Size};
use crate::failure::EXIT_CODES;
use crate::live;

/// Shows, makes, keeps and compares maps of swap: which memory cgroup owns each slot.
///
/// `live` reads the swap of this machine; the other commands work on images, files that hold the owner of each slot as a
/// 16-bit id. docs/image-format.md of swap-records describes them. A FILE that is read is read once, in little memory,
/// and every byte of it is checked. A FILE that is written is written beside, and then takes the place of what was there, so a
/// failure leaves the old one.
///
/// What takes longer than a second says how far it is, on standard error.
#[derive(Parser, Debug)]
#[command(name = "swapmap", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = false)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Prints the owners of each swapfile of this machine, largest first.
    #[command(long_about = live::ABOUT)]
    Live(LiveArgs),
    /// Makes an image of a synthetic map.
    ///
    /// The map is a function of family, owners, sizes and seed: two who name the same get the same image.
    Make(MakeArgs),
    /// Shows an image as text, and as a picture.
    Show(ShowArgs),
    /// Prints how many slots each id has, largest first.
    Owners(OwnersArgs),
    /// Writes an image in which the records of one id are another one's.
    ///
    /// This is what a memory cgroup leaves when it dies and its parent gets its swap. A tree of cgroups in the image stays
    /// as it is.
    Reparent(ReparentArgs),
    /// Prints the slots of two images whose owners differ; exits with 1 if there are any.
    ///
    /// Slots that one image does not have count as slots without a record.
    Diff(DiffArgs),
    /// Checks each byte of images; exits with 1 if one is damaged, cut, or no image.
    Verify(VerifyArgs),
    /// Prints the records of an image as runs of slots with one owner.
    ///
    /// The columns are the swap type, the first slot, how many slots, and the id of their owner.
    Export(ExportArgs),
    /// Prints completions for a shell.
    Completions(CompletionsArgs),
    /// Prints the man page of swapmap, or of one of its commands.
    Man(ManArgs),
}

#[derive(Args, Debug)]
pub(crate) struct LiveArgs {
    /// Write an image of what was found to this file as well.
    ///
    /// Its ids are those of --csv and --json; paths of cgroups are not in it.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) save: Option<PathBuf>,
    /// Draw the swapfiles to this file as well.
    #[arg(long, value_name = "FILE", long_help = live::ABOUT_PNG, value_hint = ValueHint::FilePath)]
    pub(crate) png: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print CSV instead of text: a row for each cgroup and swap type, then what was not found.
    #[arg(long)]
    pub(crate) csv: bool,
}

/// How owners are spread over the slots.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FamilyName {
    /// Cgroups that swap at once, as measured on Linux: runs of about 1.1 slots.
    Interleaved,
    /// 16,384 ids that live for a while, eight at a time, and leave stretches of 64 to 2,048 slots.
    Jobs,
    /// 16,384 ids; each slot belongs to any of them.
    Uniform,
}

#[derive(Args, Debug)]
pub(crate) struct MakeArgs {
    /// Where the image goes; `-` is standard output.
    #[arg(short, long, value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// How owners are spread over the slots.
    #[arg(long, value_enum, default_value = "interleaved")]
    pub(crate) family: FamilyName,
    /// Owners of an interleaved map, 1 to 65535; 150 if not given.
    #[arg(long, value_name = "N")]
    pub(crate) owners: Option<MemcgId>,
    /// Slots of a swapfile, or bytes of swap with a unit, such as 4GiB; a slot is 4 KiB of swap, and 2 bytes of the
    /// image. More than once: as many swap types.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub(crate) size: Vec<Size>,
    /// Another seed makes another map.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Make ID the owner of so many slots of each type, scattered over all of it: what a dead cgroup left. May be given
    /// more than once.
    #[arg(long, value_name = "ID:SLOTS")]
    pub(crate) remains: Vec<Remains>,
    /// Clear one to eight slots and give them an owner anew, so many times all over each type; every eighth time
    /// they stay free.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) turnovers: u64,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The image.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Draw the swap types to this file as well.
    ///
    /// A pixel is a slot, or as many slots as it takes for a picture of 4 Mi pixels, in the colour of its most frequent
    /// owner.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) png: Option<PathBuf>,
    /// Rows of text for each swap type, at most.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rows: u16,
}

#[derive(Args, Debug)]
pub(crate) struct OwnersArgs {
    /// The image.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Print JSON instead of text.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print CSV instead of text: a row for each id and swap type.
    #[arg(long)]
    pub(crate) csv: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ReparentArgs {
    /// The image.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The id whose records move.
    pub(crate) old: MemcgId,
    /// The id that gets them.
    pub(crate) new: MemcgId,
    /// Where the new image goes; `-` is standard output. It may be FILE, which is then replaced.
    #[arg(short, long, value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// An image.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) a: PathBuf,
    /// Another one.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) b: PathBuf,
    /// Print how many slots went from which owner to which, instead of the slots.
    #[arg(long)]
    pub(crate) summary: bool,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// The images.
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The image.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// As CSV, which is the only format there is so far.
    #[arg(long, required = true)]
    pub(crate) csv: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// The command; without it, the page is that of swapmap.
    pub(crate) command: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["swapmap"].iter().chain(args))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_picture_is_asked_for_in_two_ways() {
        for args in [&["live", "--png", "a.png"][..], &["live", "--png=a.png"]] {
            let Command::Live(live) = parse(args).unwrap().command else {
                panic!("{args:?}");
            };
            assert_eq!(live.png, Some(PathBuf::from("a.png")));
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        for args in [
            &[][..],
            &["--png", "a"],
            &["live", "--png"],
            &["live", "--png="],
            &["live", "--png", "--help"],
            &["live", "--png", "a", "--png", "b"],
            &["live", "--pgn", "a"],
            &["live", "--json", "--csv"],
            &["live", "--save"],
            &["swap"],
            &["live", "-x"],
            &["make"],
            &["make", "-o", "a", "--owners", "0"],
            &["make", "-o", "a", "--owners", "65536"],
            &["make", "-o", "a", "--size", "0"],
            &["make", "-o", "a", "--size", "4GB"],
            &["make", "-o", "a", "--family", "other"],
            &["make", "-o", "a", "--remains", "5"],
            &["show"],
            &["show", "a", "--rows", "0"],
            &["show", "a", "b"],
            &["owners"],
            &["owners", "a", "--json", "--csv"],
            &["reparent", "a", "1", "2"],
            &["reparent", "a", "0", "2", "-o", "b"],
            &["reparent", "a", "1", "-o", "b"],
            &["diff", "a"],
            &["verify"],
            &["export", "a"],
            &["completions", "cmd"],
        ] {
            let error = parse(args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }
}
