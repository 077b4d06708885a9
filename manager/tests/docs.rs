//! The code in `docs/manager.md` is that of the manager. `SWAP_RECORDS_BLESS=1` writes it anew.
//!
//! A comment `<!-- FILE NAME -->` in the document stands before each block. In the file, the code is between
//! the comments `// docs: NAME` and `// docs: end`.

use std::path::Path;
use std::{env, fs};

/// What a reader needs at once is not longer than this.
const MOST_LINES: usize = 20;

/// The lines of that name, from the left margin on. Calls that only the tests need are left out.
fn code(file: &str, name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let source =
        fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let begin = format!("// docs: {name}");
    let lines: Vec<&str> = source
        .lines()
        .skip_while(|line| line.trim() != begin)
        .skip(1)
        .take_while(|line| line.trim() != "// docs: end")
        .filter(|line| !line.trim().starts_with("self.steps.at("))
        .collect();
    assert!(
        !lines.is_empty(),
        "{file} has no lines between `{begin}` and `// docs: end`"
    );
    assert!(
        lines.len() <= MOST_LINES,
        "{file}: {name} has {} lines",
        lines.len()
    );

    let least = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start().len())
        .min();
    let rest = |line: &&str| line.get(least.unwrap_or(0)..).unwrap_or("").to_owned() + "\n";
    lines.iter().map(rest).collect()
}

/// The document with all blocks as they are in the sources, and how many there are.
fn filled(document: &str) -> (String, usize) {
    let (mut text, mut blocks) = (String::new(), 0);
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        text += &format!("{line}\n");
        let named = line
            .strip_prefix("<!-- ")
            .and_then(|line| line.strip_suffix(" -->"));
        let Some((file, name)) = named.and_then(|named| named.split_once(' ')) else {
            continue;
        };
        let fence = lines.next();
        assert_eq!(fence, Some("```rust,ignore"), "{name}: a block follows");
        assert!(lines.any(|line| line == "```"), "{name}: the block ends");
        text += &format!("```rust,ignore\n{}```\n", code(file, name));
        blocks += 1;
    }
    (text, blocks)
}

#[test]
fn the_code_in_the_document_is_the_managers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/manager.md");
    let document = fs::read_to_string(&path).unwrap();
    let (text, blocks) = filled(&document);
    assert!(blocks >= 12, "{blocks} blocks");
    if env::var_os("SWAP_RECORDS_BLESS").is_some() {
        fs::write(&path, text).unwrap();
        return;
    }
    let other = document
        .lines()
        .zip(text.lines())
        .find(|(is, should)| is != should);
    assert_eq!(
        document, text,
        "docs/manager.md is not what the sources say, from {other:?} on: SWAP_RECORDS_BLESS=1 cargo test -p swap-records-manager \
         --test docs writes it anew"
    );
}

#[test]
fn a_block_that_differs_is_noticed() {
    let block =
        "<!-- manager/src/tree.rs create -->\n```rust,ignore\nlet guest = other();\n```\nbehind\n";
    let (text, blocks) = filled(block);
    assert_eq!(blocks, 1);
    assert!(
        text.contains("create(self.host)?;\n")
            && !text.contains("other()")
            && text.ends_with("```\nbehind\n")
    );
}
