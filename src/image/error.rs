//! [`ImageError`]: why an image was not written or not read.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::format::{PAGE, RECORD_FILE, VERSION};
use crate::entry::{SwapEntry, SwapType};
use crate::error::SwaponError;
use crate::memcg::MemcgError;

/// A part of an image that has a checksum.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Part {
    /// The first page.
    Header,
    /// Up to 32,768 ids of a type.
    Ids(SwapType),
    /// The cgroups of a tree.
    Tree,
    /// The checksums of the ids.
    Units,
    /// The last page.
    Trailer,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Ids(ty) => write!(f, "ids of swap type {ty}"),
            Self::Tree => f.write_str("tree"),
            Self::Units => f.write_str("table of units"),
            Self::Trailer => f.write_str("trailer"),
        }
    }
}

/// Why an image was not written or not read. Offsets and lengths are in bytes of the file.
///
/// An image that was there before a write is there still. After a read, no type is on that was off before.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImageError {
    /// The system refused an operation on a file.
    Io {
        /// What was tried, such as "write the image".
        doing: &'static str,
        /// The file; `None` where it has no name.
        path: Option<PathBuf>,
        /// What the system said.
        source: io::Error,
    },
    /// Another process or thread is writing an image to this path.
    Locked {
        /// The file that it writes, beside the image.
        path: PathBuf,
    },
    /// Where the new image was to be written, beside the path, lies what no writer of images has left there; or at the
    /// path itself, a device, a pipe or a socket. It was not touched.
    InTheWay {
        /// Where it lies.
        path: PathBuf,
        /// What it is, such as "a directory".
        found: &'static str,
    },
    /// The file does not begin as an image does.
    Magic {
        /// Its first 8 bytes; zeros where it is shorter.
        found: [u8; 8],
    },
    /// The image is of a version that this crate does not know.
    Version {
        /// Its version.
        found: u32,
    },
    /// The file is shorter or longer than its header says, or too short for a header.
    Length {
        /// The length of the file.
        found: u64,
        /// The length that it must have, or the least that an image has.
        expected: u64,
    },
    /// The last page is none: the image was not written to its end, or something else was written over it.
    NotWhole {
        /// Where the last page begins.
        offset: u64,
        /// Its first 8 bytes.
        found: [u8; 8],
    },
    /// Some bytes are not those that were written.
    Checksum {
        /// Which part of the image.
        part: Part,
        /// Where the part begins.
        offset: u64,
        /// Its length.
        len: u64,
        /// The checksum of the bytes that are there.
        found: u32,
        /// The checksum of those that were written.
        expected: u32,
    },
    /// A field says what it cannot.
    Field {
        /// Where the field begins.
        offset: u64,
        /// What it is called.
        name: &'static str,
        /// What it says.
        found: u64,
        /// What it must be by the sizes of the types, or the most that it may be.
        expected: u64,
    },
    /// Two types of the image are one, or do not come in order.
    TypeOrder {
        /// Where the second one's number is.
        offset: u64,
        /// The first one.
        before: SwapType,
        /// The second one.
        found: SwapType,
    },
    /// A type has no pages, or more than a swap entry can address.
    MaxPages {
        /// Where their number is.
        offset: u64,
        /// The type.
        ty: SwapType,
        /// Their number.
        found: u64,
    },
    /// An id stands behind the last page of its type.
    PastEnd {
        /// Where it stands.
        offset: u64,
        /// The type.
        ty: SwapType,
        /// The id.
        found: u16,
    },
    /// There are more or fewer records than the image says.
    Records {
        /// Where the ids begin that were counted, or the number that was added up.
        offset: u64,
        /// How many there are.
        found: u64,
        /// How many it says.
        expected: u64,
    },
    /// A cgroup of the tree cannot be.
    Cgroup {
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The image has no tree.
    NoTree,
    /// The bytes of a [`Map`](super::Map) do not begin at an even address.
    Misaligned,
    /// A type was turned off while it was being written.
    TypeOff {
        /// The type.
        ty: SwapType,
    },
    /// A type of the image could not be turned on.
    Swapon(SwaponError),
    /// A cgroup of the image could not be made.
    Memcg(MemcgError),
    /// No memory for what an image needs beside the table.
    OutOfMemory {
        /// The bytes that were refused.
        bytes: usize,
    },
}

impl ImageError {
    /// For `map_err`.
    pub(super) fn io(doing: &'static str, path: Option<&Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.map(PathBuf::from),
            source,
        }
    }

    /// The same, with the file that it is about.
    pub(super) fn at(self, path: &Path) -> Self {
        match self {
            Self::Io {
                doing,
                path: None,
                source,
            } => Self::io(doing, Some(path))(source),
            other => other,
        }
    }
}

impl From<SwaponError> for ImageError {
    fn from(error: SwaponError) -> Self {
        Self::Swapon(error)
    }
}

impl From<MemcgError> for ImageError {
    fn from(error: MemcgError) -> Self {
        Self::Memcg(error)
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io {
                doing,
                path,
                source,
            } => {
                write!(f, "cannot {doing}")?;
                if let Some(path) = path {
                    write!(f, " {}", path.display())?;
                }
                write!(f, ": {source}")?;
                match source.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        f.write_str("; the image that was there is there still: make room, and write it again")
                    }
                    io::ErrorKind::UnexpectedEof => {
                        f.write_str("; the file was cut while it was read: use a whole copy of the image")
                    }
                    _ => Ok(()),
                }
            }
            Self::Locked { path } => write!(
                f,
                "{} is being written by another process or thread: wait until it is done, or use another path",
                path.display()
            ),
            Self::InTheWay { path, found } => write!(
                f,
                "{} is {found} and not a file that a writer of images left: remove it, or use another path",
                path.display()
            ),
            Self::Magic { found } if *found == RECORD_FILE => write!(
                f,
                "at offset 0 there is {:?} and not \"SWAPRECS\": this is a file of records and no image; turn a swap \
                 type on with it, by swapon_file",
                Text(found)
            ),
            Self::Magic { found } => write!(
                f,
                "at offset 0 there is {:?} and not \"SWAPRECS\": this is no image of swap records; give the path \
                 of one",
                Text(found)
            ),
            Self::Version { found: 0 } => write!(
                f,
                "at offset 8 there is version 0 and not {VERSION}: no version has that number; use another copy of \
                 the image"
            ),
            Self::Version { found } => write!(
                f,
                "at offset 8 there is version {found} and not {VERSION}: read this image with the version of \
                 swap-records that wrote it, or a later one"
            ),
            Self::Length { found, expected } if *found < PAGE as u64 => write!(
                f,
                "the file ends at offset {found} and not at {expected} at least: it was cut; use a whole copy of the \
                 image"
            ),
            Self::Length { found, expected } => write!(
                f,
                "the file ends at offset {found} and not at {expected}: it was cut or added to; use a whole copy \
                 of the image"
            ),
            Self::NotWhole { offset, found } => write!(
                f,
                "at offset {offset} there is {:?} and not the trailer \"SRECSEND\": the image was not written to \
                 its end, or was written over; use a whole copy of it",
                Text(found)
            ),
            Self::Checksum {
                part,
                offset,
                len,
                found,
                expected,
            } => write!(
                f,
                "the {len} bytes at offset {offset}, the {part}, have the checksum {found:#010x} and not \
                 {expected:#010x}: they have changed since they were written; use another copy of the image"
            ),
            Self::Field {
                offset,
                name,
                found,
                expected,
            } => write!(
                f,
                "at offset {offset} the {name} is {found}; {expected} was expected: the image was not written by \
                 this crate, or has a fault; use another copy of it"
            ),
            Self::TypeOrder {
                offset,
                before,
                found,
            } => write!(
                f,
                "at offset {offset} swap type {found} follows type {before}; a higher one was expected, as types \
                 come once each and lowest first: use another copy of the image"
            ),
            Self::MaxPages { offset, ty, found } => write!(
                f,
                "at offset {offset} swap type {ty} has {found} pages; 1 to {} were expected: use another copy of \
                 the image",
                SwapEntry::MAX_OFFSET + 1
            ),
            Self::PastEnd { offset, ty, found } => write!(
                f,
                "at offset {offset} there is id {found} behind the last page of swap type {ty}; 0 was expected: \
                 use another copy of the image"
            ),
            Self::Records {
                offset,
                found,
                expected,
            } => write!(
                f,
                "of the ids at offset {offset}, {found} are records; {expected} were expected: use another copy \
                 of the image"
            ),
            Self::Cgroup { offset, problem } => write!(
                f,
                "at offset {offset} there is a cgroup that {problem}: use another copy of the image"
            ),
            Self::NoTree => f.write_str(
                "the image has no tree of cgroups: read it with image::read, or write it with Writer::of_tree",
            ),
            Self::Misaligned => f.write_str(
                "the bytes of the image begin at an odd address: copy them to an even one, or map the file",
            ),
            Self::TypeOff { ty } => write!(
                f,
                "swap type {ty} was turned off while its image was being written: write the image again"
            ),
            Self::Swapon(error) => error.fmt(f),
            Self::Memcg(error) => error.fmt(f),
            Self::OutOfMemory { bytes } => write!(
                f,
                "no memory for the checksums or the tree of an image: {bytes} bytes were refused; free some"
            ),
        }
    }
}

impl core::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Swapon(error) => Some(error),
            Self::Memcg(error) => Some(error),
            _ => None,
        }
    }
}

/// Bytes as the text that they may be.
struct Text<'a>(&'a [u8]);

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::error::Error;
    use std::string::ToString;

    #[test]
    fn errors_say_what_where_and_what_to_do() {
        let ty = SwapType::new(3).unwrap();
        let full = |path: Option<&Path>| {
            let full = io::ErrorKind::StorageFull.into();
            ImageError::io("write the image", path)(full)
        };
        assert!(full(None).source().is_some());
        for (error, begins, ends) in [
            (
                full(None).at(Path::new("a/b")),
                "cannot write the image a/b: ",
                "make room, and write it again",
            ),
            (
                full(None),
                "cannot write the image: ",
                "make room, and write it again",
            ),
            (
                ImageError::Locked { path: "x".into() },
                "x is being written by another process or thread",
                "or use another path",
            ),
            (
                ImageError::Magic {
                    found: *b"\x7fELF\0\0\0\0",
                },
                "at offset 0 there is \"\\x7fELF\\x00\\x00\\x00\\x00\" and not \"SWAPRECS\"",
                "give the path of one",
            ),
            (
                ImageError::Version { found: 7 },
                "at offset 8 there is version 7 and not 1: ",
                "or a later one",
            ),
            (
                ImageError::Length {
                    found: 5,
                    expected: 8192,
                },
                "the file ends at offset 5 and not at 8192 at least: it was cut; ",
                "use a whole copy of the image",
            ),
            (
                ImageError::NotWhole {
                    offset: 4096,
                    found: [0; 8],
                },
                "at offset 4096 there is ",
                "use a whole copy of it",
            ),
            (
                ImageError::Checksum {
                    part: Part::Ids(ty),
                    offset: 4096,
                    len: 8192,
                    found: 1,
                    expected: 2,
                },
                "the 8192 bytes at offset 4096, the ids of swap type 3, have the checksum 0x00000001 and not 0x00000002",
                "use another copy of the image",
            ),
            (
                ImageError::Field {
                    offset: 80,
                    name: "offset of the ids of a type",
                    found: 9,
                    expected: 4096,
                },
                "at offset 80 the offset of the ids of a type is 9; 4096 was expected: ",
                "use another copy of it",
            ),
            (
                ImageError::TypeOrder {
                    offset: 96,
                    before: ty,
                    found: ty,
                },
                "at offset 96 swap type 3 follows type 3; a higher one was expected",
                "use another copy of the image",
            ),
            (
                ImageError::MaxPages {
                    offset: 72,
                    ty,
                    found: 0,
                },
                "at offset 72 swap type 3 has 0 pages; 1 to 1125899906842624 were expected: ",
                "use another copy of the image",
            ),
            (
                ImageError::PastEnd {
                    offset: 5000,
                    ty,
                    found: 7,
                },
                "at offset 5000 there is id 7 behind the last page of swap type 3; 0 was expected: ",
                "use another copy of the image",
            ),
            (
                ImageError::Records {
                    offset: 4096,
                    found: 1,
                    expected: 2,
                },
                "of the ids at offset 4096, 1 are records; 2 were expected: ",
                "use another copy of the image",
            ),
            (
                ImageError::Cgroup {
                    offset: 4104,
                    problem: "has the id 0",
                },
                "at offset 4104 there is a cgroup that has the id 0: ",
                "use another copy of the image",
            ),
            (
                ImageError::NoTree,
                "the image has no tree",
                "or write it with Writer::of_tree",
            ),
            (
                ImageError::Misaligned,
                "the bytes of the image begin at an odd address",
                "or map the file",
            ),
            (
                ImageError::TypeOff { ty },
                "swap type 3 was turned off while its image was being written",
                "write the image again",
            ),
            (
                ImageError::OutOfMemory { bytes: 99 },
                "no memory for the checksums or the tree of an image: 99 bytes",
                "free some",
            ),
            (
                SwaponError::TypeOn { ty }.into(),
                "swap type 3 is on already",
                "or use another type",
            ),
            (
                MemcgError::NoId.into(),
                "all 65535 ids are in use",
                "another is created",
            ),
        ] {
            let text = error.to_string();
            assert!(text.starts_with(begins) && text.ends_with(ends), "{text}");
        }
    }
}
