//! Errors of images: [`ImageError`].

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::format::{PAGE, RECORD_FILE, VERSION};
use crate::entry::{SwapEntry, SwapType};
use crate::error::SwaponError;
use crate::memcg::MemcgError;

/// Names a part of an image that has a checksum.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Part {
    /// The first page.
    Header,
    /// Up to 32,768 ids of a type.
    Ids(SwapType),
    /// The tree of cgroups.
    Tree,
    /// The table of units, with the checksums of the ids.
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

/// Says why an image was not written or not read. Offsets and lengths are in bytes of the file.
///
/// After a failed write, an image that was there before is still there. After a failed read, no type is on
/// that was off before.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImageError {
    /// An operation on a file failed.
    Io {
        /// The operation, such as "write the image".
        doing: &'static str,
        /// The file; `None` if it has no name.
        path: Option<PathBuf>,
        /// The error of the system.
        source: io::Error,
    },
    /// Another process or thread is writing an image to this path.
    Locked {
        /// The file that it writes, in the folder of the image.
        path: PathBuf,
    },
    /// The name for the new image is taken by something that no writer of images has left, or the path
    /// itself is a device, a pipe or a socket. It was not touched.
    InTheWay {
        /// The path that is taken.
        path: PathBuf,
        /// A description of what is there, such as "a directory".
        found: &'static str,
    },
    /// The file does not begin as an image does.
    Magic {
        /// The first 8 bytes of the file, padded with zeros if it is shorter.
        found: [u8; 8],
    },
    /// This crate does not know the version of the image.
    Version {
        /// The version of the image.
        found: u32,
    },
    /// The file is shorter or longer than its header says, or too short for a header.
    Length {
        /// The length of the file.
        found: u64,
        /// The length that it must have, or the least length of an image.
        expected: u64,
    },
    /// The last page is not a trailer: the image is incomplete, or its end was overwritten.
    NotWhole {
        /// The offset of the last page.
        offset: u64,
        /// The first 8 bytes of the last page.
        found: [u8; 8],
    },
    /// The checksum of a part is wrong: some of its bytes have changed.
    Checksum {
        /// The part of the image.
        part: Part,
        /// The offset of the part.
        offset: u64,
        /// The length of the part.
        len: u64,
        /// The checksum of the bytes in the file.
        found: u32,
        /// The checksum that the image has for them.
        expected: u32,
    },
    /// A field has a wrong value.
    Field {
        /// The offset of the field.
        offset: u64,
        /// The name of the field.
        name: &'static str,
        /// The value of the field.
        found: u64,
        /// The value that follows from the sizes of the types, or the highest that is valid.
        expected: u64,
    },
    /// A type comes twice, or after a higher type.
    TypeOrder {
        /// The offset of the number of the second type.
        offset: u64,
        /// The first type.
        before: SwapType,
        /// The second type.
        found: SwapType,
    },
    /// A type has no pages, or more than a swap entry can address.
    MaxPages {
        /// The offset of the number of pages.
        offset: u64,
        /// The type.
        ty: SwapType,
        /// The number of pages.
        found: u64,
    },
    /// An id follows the last page of its type.
    PastEnd {
        /// The offset of the id.
        offset: u64,
        /// The type.
        ty: SwapType,
        /// The id.
        found: u16,
    },
    /// The image has another number of records than it says.
    Records {
        /// The offset of the ids that were counted, or of the total in the trailer.
        offset: u64,
        /// The number of records that were counted.
        found: u64,
        /// The number that the image says.
        expected: u64,
    },
    /// A cgroup of the tree is not valid.
    Cgroup {
        /// The offset of the cgroup, or of its wrong field.
        offset: u64,
        /// The fault, as a verb phrase.
        problem: &'static str,
    },
    /// The image has no tree.
    NoTree,
    /// The bytes of a [`Map`](super::Map) do not begin at an even address.
    Misaligned,
    /// A type was turned off while its image was being written.
    TypeOff {
        /// The type.
        ty: SwapType,
    },
    /// A type of the image could not be turned on.
    Swapon(SwaponError),
    /// A cgroup of the image could not be made.
    Memcg(MemcgError),
    /// There is no memory for the checksums or the tree of an image.
    OutOfMemory {
        /// The number of bytes that were asked for.
        bytes: usize,
    },
}

impl ImageError {
    /// Returns a closure for `map_err`.
    pub(super) fn io(doing: &'static str, path: Option<&Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.map(PathBuf::from),
            source,
        }
    }

    /// Returns the same error with the path of the file.
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
                        f.write_str("; the old image is still there: free some space, then write again")
                    }
                    io::ErrorKind::UnexpectedEof => {
                        f.write_str("; the file was truncated while it was read: use a complete copy of the image")
                    }
                    _ => Ok(()),
                }
            }
            Self::Locked { path } => write!(
                f,
                "another process or thread is writing {}: wait until it is done, or use another path",
                path.display()
            ),
            Self::InTheWay { path, found } => write!(
                f,
                "{} is {found}, which no writer of images has left there: remove it, or use another path",
                path.display()
            ),
            Self::Magic { found } if *found == RECORD_FILE => write!(
                f,
                "offset 0: found {:?}, expected \"SWAPRECS\": the file is a file of records and not an image; \
                 turn a swap type on with it: SwapRecords::swapon_file",
                Text(found)
            ),
            Self::Magic { found } => write!(
                f,
                "offset 0: found {:?}, expected \"SWAPRECS\": the file is not an image of swap records; pass the \
                 path of an image",
                Text(found)
            ),
            Self::Version { found: 0 } => write!(
                f,
                "offset 8: found version 0, expected {VERSION}: no version has that number; use another copy of the \
                 image"
            ),
            Self::Version { found } => write!(
                f,
                "offset 8: found version {found}, expected {VERSION}: read this image with the version of \
                 swap-records that wrote it, or a later one"
            ),
            Self::Length { found, expected } if *found < PAGE as u64 => write!(
                f,
                "the file ends at offset {found}, expected at least {expected}: it was truncated; use a complete copy \
                 of the image"
            ),
            Self::Length { found, expected } => write!(
                f,
                "the file ends at offset {found}, expected {expected}: it was truncated or extended; use a complete \
                 copy of the image"
            ),
            Self::NotWhole { offset, found } => write!(
                f,
                "offset {offset}: found {:?}, expected the trailer \"SRECSEND\": the image is incomplete, or its end \
                 was overwritten; use a complete copy of the image",
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
                "offset {offset}: the checksum of the {part}, {len} bytes, is {found:#010x}, expected \
                 {expected:#010x}: some bytes have changed; use another copy of the image"
            ),
            Self::Field {
                offset,
                name,
                found,
                expected,
            } => write!(
                f,
                "offset {offset}: the {name} is {found}, expected {expected}: this crate did not write the image, or \
                 the file is damaged; use another copy of the image"
            ),
            Self::TypeOrder {
                offset,
                before,
                found,
            } => write!(
                f,
                "offset {offset}: swap type {found} follows type {before}, expected a higher type: each type comes \
                 once, lowest first; use another copy of the image"
            ),
            Self::MaxPages { offset, ty, found } => write!(
                f,
                "offset {offset}: swap type {ty} has {found} pages, expected 1 to {}: use another copy of the image",
                SwapEntry::MAX_OFFSET + 1
            ),
            Self::PastEnd { offset, ty, found } => write!(
                f,
                "offset {offset}: id {found} follows the last page of swap type {ty}, expected 0: use another copy of \
                 the image"
            ),
            Self::Records {
                offset,
                found,
                expected,
            } => write!(
                f,
                "offset {offset}: found {found} records, expected {expected}: use another copy of the image"
            ),
            Self::Cgroup { offset, problem } => write!(
                f,
                "offset {offset}: a cgroup {problem}: use another copy of the image"
            ),
            Self::NoTree => f.write_str(
                "the image has no tree of cgroups: read it with image::read, or write it with Writer::of_tree",
            ),
            Self::Misaligned => f.write_str(
                "the bytes of the image begin at an odd address: copy them to an even address, or map the file",
            ),
            Self::TypeOff { ty } => write!(
                f,
                "swap type {ty} was turned off while its image was being written: write the image again"
            ),
            Self::Swapon(error) => error.fmt(f),
            Self::Memcg(error) => error.fmt(f),
            Self::OutOfMemory { bytes } => write!(
                f,
                "no memory for the checksums or the tree of an image: {bytes} bytes were refused; free some memory"
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

/// Shows bytes as escaped text.
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
                "free some space, then write again",
            ),
            (
                full(None),
                "cannot write the image: ",
                "free some space, then write again",
            ),
            (
                ImageError::Locked { path: "x".into() },
                "another process or thread is writing x: ",
                "or use another path",
            ),
            (
                ImageError::Magic {
                    found: *b"\x7fELF\0\0\0\0",
                },
                "offset 0: found \"\\x7fELF\\x00\\x00\\x00\\x00\", expected \"SWAPRECS\": ",
                "pass the path of an image",
            ),
            (
                ImageError::Version { found: 7 },
                "offset 8: found version 7, expected 1: ",
                "or a later one",
            ),
            (
                ImageError::Length {
                    found: 5,
                    expected: 8192,
                },
                "the file ends at offset 5, expected at least 8192: it was truncated; ",
                "use a complete copy of the image",
            ),
            (
                ImageError::NotWhole {
                    offset: 4096,
                    found: [0; 8],
                },
                "offset 4096: found ",
                "use a complete copy of the image",
            ),
            (
                ImageError::Checksum {
                    part: Part::Ids(ty),
                    offset: 4096,
                    len: 8192,
                    found: 1,
                    expected: 2,
                },
                "offset 4096: the checksum of the ids of swap type 3, 8192 bytes, is 0x00000001, expected 0x00000002",
                "use another copy of the image",
            ),
            (
                ImageError::Field {
                    offset: 80,
                    name: "offset of the ids of a type",
                    found: 9,
                    expected: 4096,
                },
                "offset 80: the offset of the ids of a type is 9, expected 4096: ",
                "use another copy of the image",
            ),
            (
                ImageError::TypeOrder {
                    offset: 96,
                    before: ty,
                    found: ty,
                },
                "offset 96: swap type 3 follows type 3, expected a higher type: ",
                "use another copy of the image",
            ),
            (
                ImageError::MaxPages {
                    offset: 72,
                    ty,
                    found: 0,
                },
                "offset 72: swap type 3 has 0 pages, expected 1 to 1125899906842624: ",
                "use another copy of the image",
            ),
            (
                ImageError::PastEnd {
                    offset: 5000,
                    ty,
                    found: 7,
                },
                "offset 5000: id 7 follows the last page of swap type 3, expected 0: ",
                "use another copy of the image",
            ),
            (
                ImageError::Records {
                    offset: 4096,
                    found: 1,
                    expected: 2,
                },
                "offset 4096: found 1 records, expected 2: ",
                "use another copy of the image",
            ),
            (
                ImageError::Cgroup {
                    offset: 4104,
                    problem: "has the id 0",
                },
                "offset 4104: a cgroup has the id 0: ",
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
                "free some memory",
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
