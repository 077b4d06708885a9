//! Prints an input as a complete test. `cargo fuzz` prints the `Debug` text of an input that crashed, so that
//! text can be pasted into a test file as it is. docs/fuzzing.md names the file for each target.

use std::fmt::{Debug, Formatter, Result};

use swap_records_oracle::Op;

use crate::{CmpxchgOps, Content, ManyOps, TableOps, ThreadOps};

const HEAD: &str = "#[test]\nfn rename_this_to_a_sentence_that_says_what_went_wrong() {";

/// Writes the operations in the syntax of Rust, one per line.
fn ops(ops: &[Op]) -> String {
    if ops.is_empty() {
        return String::new();
    }
    let line = |op: &Op| format!("\n        {op:?},").replace('[', "vec![");
    ops.iter().map(line).chain(["\n    ".into()]).collect()
}

/// Writes a test that applies the operations to this table and to a map. `each` and `last` are the checks
/// after each operation and at the end.
fn beside_a_map(
    f: &mut Formatter,
    table: &str,
    first: &str,
    all: &[Op],
    [each, last]: [&str; 2],
) -> Result {
    writeln!(f, "{HEAD}")?;
    if all.iter().any(|op| matches!(op, Op::MigrateWithHint(..))) {
        writeln!(f, "    use Hint::*;")?;
    }
    writeln!(f, "    use Op::*;")?;
    writeln!(f, "    let table = {table};")?;
    writeln!(f, "    let mut both = Both::new(&table);")?;
    writeln!(f, "    for op in {first}.iter().chain(&[{}]) {{", ops(all))?;
    writeln!(f, "        both.apply(op);{each}\n    }}")?;
    write!(f, "    both.{last}();\n}}")
}

/// The checks of a small table.
const SMALL: [&str; 2] = ["\n        both.check();", "finish"];

fn lock(parking_lot: bool) -> &'static str {
    if parking_lot {
        "parking_lot::RawMutex"
    } else {
        "RawSpinLock"
    }
}

impl Debug for CmpxchgOps {
    fn fmt(&self, f: &mut Formatter) -> Result {
        let first = "[Swapon(0, CMPXCHG_PAGES)]";
        beside_a_map(f, "SwapRecords::new()", first, &self.0, SMALL)
    }
}

impl Debug for TableOps {
    fn fmt(&self, f: &mut Formatter) -> Result {
        let lock = lock(self.parking_lot);
        let table = format!(
            "SwapRecords::<{lock}>::with_raw_mutex().with_backend(Backend::{:?})",
            self.backend
        );
        beside_a_map(f, &table, "AT_FIRST", &self.ops, SMALL)
    }
}

impl Debug for ManyOps {
    fn fmt(&self, f: &mut Formatter) -> Result {
        let last = if self.validate { "finish" } else { "turn_off" };
        beside_a_map(
            f,
            "SwapRecords::new()",
            "MANY_AT_FIRST",
            &self.ops,
            ["", last],
        )
    }
}

impl Debug for ThreadOps {
    fn fmt(&self, f: &mut Formatter) -> Result {
        writeln!(f, "{HEAD}\n    use Op::*;")?;
        for (thread, list) in self.lists.iter().enumerate() {
            writeln!(f, "    let thread_{thread} = vec![{}];", ops(list))?;
        }
        let names = (0..self.lists.len()).map(|thread| format!("thread_{thread}"));
        let names = names.collect::<Vec<_>>().join(", ");
        writeln!(f, "    let lists = [{names}];")?;
        // Threads interleave differently in each round.
        writeln!(f, "    for _ in 0..1000 {{")?;
        let lock = lock(self.parking_lot);
        write!(f, "        explains_all::<{lock}>(&lists);\n    }}\n}}")
    }
}

impl Debug for Content {
    fn fmt(&self, f: &mut Formatter) -> Result {
        let Self {
            shift,
            old,
            new,
            stop_at,
            ..
        } = self;
        let runs = self.ids.chunk_by(|a, b| a == b);
        let runs: Vec<_> = runs.map(|run| (run[0], run.len())).collect();
        writeln!(f, "{HEAD}\n    let runs: &[(u16, usize)] = &{runs:?};")?;
        writeln!(
            f,
            "    let ids = runs.iter().map(|&(id, len)| vec![id; len]);"
        )?;
        writeln!(f, "    let ids: Vec<_> = ids.flatten().collect();")?;
        writeln!(
            f,
            "    for &backend in Backend::ALL.iter().filter(|backend| backend.is_available()) {{"
        )?;
        write!(
            f,
            "        check(backend, &ids, {shift}, {old}, {new}, {stop_at});\n    }}\n}}"
        )
    }
}
