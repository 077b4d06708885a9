//! CSV and JSON.

use std::io::{self, Write};

/// Returns a string of JSON, with its quotes.
pub fn json(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c.is_control() => json += &format!("\\u{:04x}", u32::from(c)),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

/// Returns a field of CSV, in quotes where it needs them.
pub fn csv(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Writes a member of the outermost object that is a list, one element per line.
pub fn list(
    name: &str,
    elements: impl Iterator<Item = String>,
    out: &mut dyn Write,
) -> io::Result<()> {
    write!(out, "  \"{name}\": [")?;
    for (nth, element) in elements.enumerate() {
        let comma = if nth > 0 { "," } else { "" };
        write!(out, "{comma}\n    {element}")?;
    }
    write!(out, "]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_json_or_csv() {
        assert_eq!(
            json("a\"\\\n\u{1b}\u{e9}"),
            "\"a\\\"\\\\\\u000a\\u001b\u{e9}\""
        );
        assert_eq!(csv("a b"), "a b");
        assert_eq!(csv("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
    }
}
