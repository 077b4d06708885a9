//! Compares the README and the help with the output.

use super::*;

const README: &str = include_str!("../../README.md");

/// The cells after the first one of the row of `output` in the README.
fn cell(output: &str) -> &'static str {
    let row = format!("| `{output}` | ");
    let mut rows = README.lines().filter_map(|line| line.strip_prefix(&row));
    let cell = rows.next().unwrap_or_else(|| panic!("no row of {output}"));
    assert_eq!(rows.next(), None, "two rows of {output}");
    cell.trim_end_matches(" |")
}

/// Names in the order in which each comes first.
fn distinct<'n>(names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let mut distinct = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}

#[test]
fn the_readme_has_the_columns_and_members_that_are_printed() {
    let folder = Folder::new("columns");
    let path = folder.image("image");
    for args in [["owners", "--csv"], ["export", "--csv"]] {
        let printed = swapmap!(args[0], args[1], path).prints();
        let output = args.join(" ");
        let header = printed.lines().next().unwrap();
        assert_eq!(cell(&output), format!("`{header}`"), "{output}");
        // The help and the man page, which is made from it.
        for help in [
            swapmap!(args[0], "--help").prints(),
            swapmap!("man", args[0]).prints().replace("\\-", "-"),
        ] {
            assert!(help.contains(header), "{help}");
        }
    }
    let printed = swapmap!("owners", "--json", path).prints();
    let before_colon = printed.match_indices("\":").map(|(at, _)| &printed[..at]);
    let names = before_colon.map(|before| before.rsplit('"').next().unwrap());
    // Members whose names are swap types.
    let names = distinct(names.filter(|name| name.parse::<u8>().is_err()));
    // Every second part is between backticks.
    let row = distinct(cell("owners --json").split('`').skip(1).step_by(2));
    assert_eq!(row, names);
    let help = swapmap!("owners", "--help").prints();
    for name in ["file", "records", "types", "owners", "by_type"] {
        assert!(help.contains(name), "{name}: {help}");
    }
    // A test of the library compares the README with the output of `live`.
    let header = cell("live --csv").trim_matches('`');
    let help = swapmap!("live", "--help").prints();
    assert!(help.contains(header), "{help}");
}

#[test]
fn the_readme_has_the_exit_codes_of_each_command() {
    let help = swapmap!("--help").prints();
    let commands = help.split("Commands:\n").nth(1).unwrap();
    let commands = commands.split("\n\n").next().unwrap().lines();
    let mut nr = 0;
    for command in commands.map(|line| line.split_whitespace().next().unwrap()) {
        if command == "help" {
            continue;
        }
        assert_eq!(cell(command).matches(" | ").count(), 3, "{command}");
        nr += 1;
    }
    assert_eq!(nr, 10, "{help}");
    for says in [
        cell("verify").contains("all images are whole"),
        cell("verify").contains("damaged, truncated, or not an image"),
    ] {
        assert!(says, "{}", cell("verify"));
    }
}
