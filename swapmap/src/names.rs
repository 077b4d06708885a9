//! Names of files and cgroups as text: [`printable`] and [`shown`].
//!
//! **Invariant: a name is escaped once, where it becomes part of a text.** A text that has names in it is
//! printed as it is.

use std::path::Path;

/// Returns a name as one line of text, whatever bytes it has.
///
/// A terminal obeys control characters, and some characters change the order of others. Both are escaped as
/// Rust escapes them, and so is the backslash. A byte that is not UTF-8 becomes `\xe9`.
pub fn printable(name: impl AsRef<[u8]>) -> String {
    let mut text = String::new();
    for chunk in name.as_ref().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || c.is_control() || is_invisible(c) {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Returns a path as one line of text, as [`printable`] does.
pub fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_encoded_bytes())
}

/// Returns whether `c` is a mark of direction, a joiner, or a separator of lines or paragraphs.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(printable("/a \u{1b}[2J\n\u{e9}"), "/a \\u{1b}[2J\\n\u{e9}");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn a_name_that_is_not_utf8_differs_from_one_that_looks_like_it() {
        assert_eq!(printable(b"caf\xe9/\xe2\x82"), "caf\\xe9/\\xe2\\x82");
        assert_eq!(printable("caf\\xe9"), "caf\\\\xe9");
    }

    #[test]
    fn any_name_is_one_line() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2000 {
            let name: Vec<u8> = (0..rng.usize(..12)).map(|_| rng.u8(..)).collect();
            assert!(
                !printable(&name).contains(|c: char| c.is_control()),
                "{name:?}"
            );
        }
    }
}
