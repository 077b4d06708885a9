//! Parses the kernel's text files as bytes.
//!
//! Names of mappings, files, cgroups and commands may have any byte but 0, and any user can choose names that
//! are not UTF-8. So nothing here needs UTF-8, and no process is dropped because of a name.

use super::Version;

/// Parses a decimal number. Ignores blanks around it.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    number(digits.trim_ascii(), 10)
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    // `from_str_radix` accepts a sign, which the kernel never writes.
    if digits.first() == Some(&b'+') {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

/// Returns the lines of a file, without their ends.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
}

/// Splits a line at blanks and tabs. Other white space may be part of a name: the kernel escapes only blanks,
/// tabs, line ends and backslashes.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| b" \t".contains(byte))
        .filter(|word| !word.is_empty())
}

/// Decodes a name whose blanks, line ends and backslashes are written as three octal digits.
pub(super) fn unescape(name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &rest[4..] } else { after };
    }
    bytes
}

/// Returns the value of `name` in a file of lines `name value`.
pub(super) fn field(text: &[u8], name: &[u8]) -> Option<u64> {
    lines(text)
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(b" "))
        .and_then(decimal)
}

/// Returns the memory cgroup in `/proc/PID/cgroup`: lines `number:controllers:path`. The path may have
/// colons.
pub(super) fn memcg_path(text: &[u8], version: Version) -> Option<&[u8]> {
    lines(text).find_map(|line| {
        let mut parts = line.splitn(3, |&byte| byte == b':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_it = match version {
            Version::V1 => controllers
                .split(|&byte| byte == b',')
                .any(|c| c == b"memory"),
            Version::V2 => number == b"0" && controllers.is_empty(),
        };
        is_it.then_some(path)
    })
}

/// The start time and the parent of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// Clock ticks (10 ms) since the machine booted.
    pub(super) ticks: u64,
    pub(super) parent: u32,
}

/// Parses fields 4 and 22 of `/proc/PID/stat`. Field 2 is the command in parentheses, which may itself have
/// parentheses.
pub(super) fn start(stat: &[u8]) -> Option<Start> {
    let command_ends = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = words(&stat[command_ends + 1..]);
    // The first is field 3, the state.
    let parent = fields.nth(1).and_then(decimal)?;
    let ticks = fields.nth(22 - 5).and_then(decimal)?;
    Some(Start {
        ticks,
        parent: u32::try_from(parent).ok()?,
    })
}

/// Parses field 20 of `/proc/PID/stat`: the number of threads. A main thread that has ended counts.
pub(super) fn threads(stat: &[u8]) -> Option<u64> {
    let command_ends = stat.iter().rposition(|&byte| byte == b')')?;
    words(&stat[command_ends + 1..])
        .nth(20 - 3)
        .and_then(decimal)
}

/// A mapping in `/proc/PID/smaps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Whether it has a file, which may be one of tmpfs.
    pub(super) of_file: bool,
    /// `Swap:`, in bytes.
    pub(super) swap: u64,
}

/// Parses the mappings in `/proc/PID/smaps`: for each a line of `/proc/PID/maps`, and below it lines `Key:
/// value`.
pub(super) fn mappings(smaps: &[u8]) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in lines(smaps) {
        if let Some(value) = line.strip_prefix(b"Swap:") {
            let kib = words(value).next().and_then(decimal);
            if let (Some(last), Some(kib)) = (mappings.last_mut(), kib) {
                last.swap = kib.saturating_mul(1024);
            }
        } else if !line[0].is_ascii_uppercase()
            && let Some(mapping) = heading(line)
        {
            mappings.push(mapping);
        }
    }
    mappings
}

/// `start-end permissions offset device inode name`
fn heading(line: &[u8]) -> Option<Mapping> {
    let mut fields = words(line);
    let range = fields.next()?;
    let dash = range.iter().position(|&byte| byte == b'-')?;
    Some(Mapping {
        start: number(&range[..dash], 16)?,
        end: number(&range[dash + 1..], 16)?,
        of_file: fields.nth(3)? != b"0",
        swap: 0,
    })
}

/// The fields of a line of `/proc/self/mountinfo` that are used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) root: Vec<u8>,
    pub(super) point: Vec<u8>,
    pub(super) fs_type: Vec<u8>,
    pub(super) has_memory_option: bool,
}

/// `id parent device root point options [tags] - type source super-options`
pub(super) fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = words(line);
    let (root, point) = (fields.nth(3)?, fields.next()?);
    // The dash ends the tags.
    fields.find(|&word| word == b"-")?;
    let (fs_type, _source, options) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Mount {
        root: unescape(root),
        point: unescape(point),
        fs_type: fs_type.to_vec(),
        has_memory_option: options.split(|&byte| byte == b',').any(|o| o == b"memory"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &[u8] = b"7f00-8f00 rw-p 00000000 00:01 1034 /memfd:caf\xe9\\012Swap: (deleted)\n\
        Size:                  4 kB\nSwap:                 12 kB\nSwapPss:               1 kB\n\
        VmFlags: rd wr\n\
        9000-a000 rw-p 00000000 00:00 0 \nSwap:  0 kB\n";

    #[test]
    fn a_mapping_whose_name_is_not_utf8_is_read() {
        let first = Mapping {
            start: 0x7f00,
            end: 0x8f00,
            of_file: true,
            swap: 12288,
        };
        let second = Mapping {
            start: 0x9000,
            end: 0xa000,
            of_file: false,
            swap: 0,
        };
        assert_eq!(mappings(SMAPS), [first, second]);
    }

    #[test]
    fn a_cgroup_whose_name_is_not_utf8_is_read() {
        let text = b"12:name=memory:/no\n4:cpu,memory:/a:b/x\xe9\n0::/unified\n";
        assert_eq!(memcg_path(text, Version::V1), Some(&b"/a:b/x\xe9"[..]));
        assert_eq!(memcg_path(text, Version::V2), Some(&b"/unified"[..]));
        assert_eq!(memcg_path(b"0\n", Version::V2), None);
    }

    #[test]
    fn a_command_name_cannot_change_the_start_time() {
        let stat = b"7 (a\xe9) 1 (b) S 3 7 7 0 -1 4 5 6 7 8 9 10 11 12 20 0 1 0 4711 99 1\n";
        assert_eq!(
            start(stat),
            Some(Start {
                ticks: 4711,
                parent: 3
            })
        );
        assert_eq!(start(b"7 (a) S 3"), None);
    }

    #[test]
    fn a_mount_whose_point_has_any_bytes_is_read() {
        let line =
            b"33 24 0:29 /box /mnt/a\\040b\xe9 rw shared:1 master:2 - cgroup cgroup rw,memory";
        let mount = mount(line).unwrap();
        assert_eq!(
            (&mount.root[..], &mount.point[..]),
            (&b"/box"[..], &b"/mnt/a b\xe9"[..])
        );
        assert_eq!(&mount.fs_type, b"cgroup");
        assert!(mount.has_memory_option);
    }

    #[test]
    fn a_name_with_a_broken_escape_is_left_as_it_is() {
        for name in [&b"a\\04"[..], b"a\\999", b"\\", b"\\777"] {
            assert_eq!(unescape(name), name);
        }
        assert_eq!(unescape(b"a\\040b\\134\\012\xff"), b"a b\\\n\xff");
    }

    #[test]
    fn numbers_have_no_sign_and_no_words() {
        assert_eq!(decimal(b" 12\n"), Some(12));
        for bad in [
            &b""[..],
            b"+1",
            b"-1",
            b"1 2",
            b"\xff",
            b"99999999999999999999",
        ] {
            assert_eq!(decimal(bad), None);
        }
        assert_eq!(field(b"swapcached 1\nswap 2\n", b"swap"), Some(2));
    }

    /// Parses complete lines with bytes replaced, dropped and doubled, and random bytes.
    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let seeds: [&[u8]; 4] = [
            SMAPS,
            b"12:name=memory:/no\n4:cpu,memory:/a:b/x\xe9\n0::/unified\n",
            b"7 (a\xe9) 1 (b) S 3 7 7 0 -1 4 5 6 7 8 9 10 11 12 20 0 1 0 4711 99 1\n",
            b"33 24 0:29 /box /mnt/a\\040b rw shared:1 - cgroup cgroup rw,memory\n",
        ];
        let mut rng = fastrand::Rng::with_seed(16);
        for _ in 0..20_000 {
            let mut text = rng.choice(seeds).unwrap().to_vec();
            for _ in 0..rng.usize(..8) {
                if text.is_empty() {
                    break;
                }
                let at = rng.usize(..text.len());
                match rng.u8(..4) {
                    0 => text[at] = *rng.choice(b" \n:-\\()0:9\xff").unwrap(),
                    1 => text.truncate(at),
                    2 => drop(text.drain(..at)),
                    _ => text[at] = rng.u8(..),
                }
            }
            mappings(&text);
            start(&text);
            memcg_path(&text, Version::V1);
            memcg_path(&text, Version::V2);
            field(&text, b"swap");
            for line in lines(&text) {
                mount(line);
                assert!(unescape(line).len() <= line.len());
            }
        }
    }
}
