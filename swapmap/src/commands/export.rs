//! `swapmap export`: prints the records as runs of slots with one owner.

use std::io::Write;

use swap_records::SwapType;

use crate::cli::ExportArgs;
use crate::failure::{Answer, Failure};
use crate::output::print;
use crate::progress::Progress;
use crate::source::Image;

/// A run that the next slots may continue.
#[derive(Clone, Copy)]
struct Open {
    ty: SwapType,
    start: u64,
    len: u64,
    id: u16,
}

pub(crate) fn run(args: &ExportArgs) -> Result<Answer, Failure> {
    let image = Image::open(&args.file)?;
    let progress = Progress::beside_text(format!("reading {}", image.name()), image.bytes());
    print(|out| {
        writeln!(out, "type,start,slots,id")?;
        let mut open: Option<Open> = None;
        let mut line = Vec::with_capacity(64);
        let mut end = |run: Option<Open>, out: &mut dyn Write| -> Result<(), Failure> {
            if let Some(Open { ty, start, len, id }) = run {
                line.clear();
                number(ty.get().into(), &mut line);
                for field in [start, len, id.into()] {
                    line.push(b',');
                    number(field, &mut line);
                }
                line.push(b'\n');
                out.write_all(&line)?;
            }
            Ok(())
        };
        image.each_unit(&progress, |unit, ids| {
            let ty = unit.start.swap_type();
            let mut slot = unit.start.offset();
            for same in ids.chunk_by(|before, after| before == after) {
                let (id, len) = (same[0], same.len() as u64);
                match &mut open {
                    // The run continues from the unit before.
                    Some(run) if run.ty == ty && run.id == id && run.start + run.len == slot => {
                        run.len += len;
                    }
                    _ => {
                        end(open.take(), out)?;
                        open = (id != 0).then_some(Open {
                            ty,
                            start: slot,
                            len,
                            id,
                        });
                    }
                }
                slot += len;
            }
            Ok(())
        })?;
        end(open.take(), out)
    })?;
    Ok(Answer::Done)
}

/// Appends the digits of a number. This is several times faster than `write!`, and a large image has a
/// billion numbers.
fn number(mut number: u64, to: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789"[(number % 10) as usize];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_all_their_digits() {
        for of in [0, 7, 10, 65_535, 1 << 50, u64::MAX] {
            let mut digits = Vec::new();
            number(of, &mut digits);
            assert_eq!(String::from_utf8(digits).unwrap(), of.to_string());
        }
    }
}
