//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use swap_records::MemcgId;

use crate::commands::make::{Remains, Size};
use crate::failure::EXIT_CODES;
use crate::live;

/// The output for programs, for the help of `owners`. A test compares the README and this text with the
/// output.
const OWNERS_OUTPUT: &str = "\
Output for programs:
  --csv   the columns id,type,slots: a row for each id and swap type
  --json  an object with the members
            file, slots, records   the path, and the slots and records of all types
            types                  a list of type, slots, records
            owners                 a list of id, slots, by_type, largest first;
                                   by_type maps swap types to slots";

/// Shows, makes, keeps and compares maps of swap: which memory cgroup owns each slot.
///
/// `live` reads the swap of this machine. The other commands work on images: files that hold the owner of
/// each slot as a 16-bit id. docs/image-format.md of swap-records describes the format. A command reads an
/// image once, in little memory, and checks every byte.
///
/// Files are written under another name, .NAME.partial in the same directory, and renamed when they are
/// complete. So a failure leaves the old file. Errors, SIGINT, SIGTERM and SIGHUP remove .NAME.partial; a
/// second signal, SIGKILL, SIGQUIT and a power failure leave it. It may be deleted, and the next command that
/// writes the image NAME removes it. For a picture the name is .NAME.PID.partial, and no command removes it. A
/// symbolic link is followed, also where its target does not exist yet.
///
/// A command that takes longer than a second shows its progress on standard error. Names of files and cgroups
/// are escaped as in Rust: a backslash is \\, and a byte that is not UTF-8 is \xe9.
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
    /// The arguments determine each slot: the same arguments always make the same image.
    Make(MakeArgs),
    /// Shows an image as text, and as a picture.
    Show(ShowArgs),
    /// Prints how many slots each id has, largest first.
    #[command(after_long_help = OWNERS_OUTPUT)]
    Owners(OwnersArgs),
    /// Writes an image in which all records of one id have another one.
    ///
    /// So the parent of an offline cgroup gets its records. A tree of cgroups in the image stays as it is.
    Reparent(ReparentArgs),
    /// Prints the slots whose owners differ between two images; exits with 1 if there are any.
    ///
    /// A slot that one image does not have counts as a slot without a record.
    Diff(DiffArgs),
    /// Checks each byte of images; exits with 1 if one is damaged, truncated, or not an image.
    Verify(VerifyArgs),
    /// Prints the records of an image as runs of slots with one owner.
    ///
    /// The columns are type,start,slots,id: the swap type, the first slot, the number of slots, and the id of
    /// their owner.
    Export(ExportArgs),
    /// Prints completions for a shell.
    Completions(CompletionsArgs),
    /// Prints the man page of swapmap, or of one of its commands.
    Man(ManArgs),
}

#[derive(Args, Debug)]
pub(crate) struct LiveArgs {
    /// Also write an image of the owners to this file.
    ///
    /// The image has the ids that --csv and --json print. It does not have the paths of cgroups.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) save: Option<PathBuf>,
    /// Also draw the swapfiles to this file.
    #[arg(long, value_name = "FILE", long_help = live::ABOUT_PNG, value_hint = ValueHint::FilePath)]
    pub(crate) png: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print CSV instead of text: a row for each cgroup and swap type, then rows of slots whose owner was not
    /// found.
    #[arg(long)]
    pub(crate) csv: bool,
}

/// How owners are spread over the slots.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FamilyName {
    /// Cgroups that swap concurrently, as measured on Linux: runs of about 1.1 slots.
    Interleaved,
    /// 16,384 ids that run one after another, eight at a time, and leave stretches of 64 to 2,048 slots.
    Jobs,
    /// 16,384 ids; each slot belongs to any of them.
    Uniform,
}

#[derive(Args, Debug)]
pub(crate) struct MakeArgs {
    /// The file to write the image to; `-` is standard output.
    #[arg(short, long, value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// The way in which owners are spread over the slots.
    #[arg(long, value_enum, default_value = "interleaved")]
    pub(crate) family: FamilyName,
    /// Number of owners of an interleaved map, 1 to 65535 [default: 150].
    #[arg(long, value_name = "N")]
    pub(crate) owners: Option<MemcgId>,
    /// Size of a swap type: a number of slots, or bytes of swap with a unit, such as 4GiB. A slot is 4 KiB of
    /// swap and 2 bytes of the image. Give it several times for several swap types.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub(crate) size: Vec<Size>,
    /// Seed of the random numbers: another seed makes another map.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Make ID the owner of this many slots of each type, scattered over the whole type, as the remaining
    /// records of an offline cgroup are. May be given several times.
    #[arg(long, value_name = "ID:SLOTS")]
    pub(crate) remains: Vec<Remains>,
    /// Clear one to eight slots and give them a new owner, this many times all over each type. Every eighth
    /// time, the slots stay free. At most 1000 times per slot.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) turnovers: u64,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The image.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Also draw the swap types to this file.
    ///
    /// A pixel is one slot. Of a type with more than 4 Mi slots it is several slots, in the colour of their
    /// most frequent owner.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) png: Option<PathBuf>,
    /// Largest number of rows of text per swap type.
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
    /// The id that the records get.
    pub(crate) new: MemcgId,
    /// The file to write the new image to; `-` is standard output. It may be FILE, which is then replaced.
    #[arg(short, long, value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// An image.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) a: PathBuf,
    /// The other image.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) b: PathBuf,
    /// Print the number of slots for each pair of owners, instead of the slots.
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
    /// Print CSV, the only format.
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
    /// The command. Without it, prints the page of swapmap.
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
