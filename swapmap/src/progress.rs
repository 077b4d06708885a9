//! Shows the progress of a command on standard error, after its first second.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A command that takes less time shows nothing.
pub(crate) const QUIET: Duration = Duration::from_secs(1);
/// No rate is shown earlier: it would be a guess from the first pieces, which may come from memory.
const RATES: Duration = Duration::from_secs(2);
/// Time between two lines, where standard error is not a terminal.
pub(crate) const LINES: Duration = Duration::from_secs(10);

/// Shows how many bytes of a total are done: as a bar if standard error is a terminal, otherwise as lines.
pub(crate) struct Progress {
    doing: String,
    total: u64,
    done: AtomicU64,
    began: Instant,
    /// When the next progress is shown, in milliseconds since `began`. This and the bytes are only displayed,
    /// so all accesses are relaxed.
    due: AtomicU64,
    shown: Mutex<Shown>,
}

enum Shown {
    Bar(Option<ProgressBar>),
    Lines(Box<dyn Write + Send>, Duration),
}

impl Progress {
    /// Begins to show the progress of `doing`, such as "reading a.image"; `total` is in bytes.
    pub(crate) fn new(doing: String, total: u64) -> Self {
        let shown = if io::stderr().is_terminal() {
            Shown::Bar(None)
        } else {
            Shown::Lines(Box::new(io::stderr()), LINES)
        };
        Self::shown_as(doing, total, QUIET, shown)
    }

    /// As [`new`](Self::new), but shows nothing if standard output is the same terminal: the bar would mix
    /// with the text.
    pub(crate) fn beside_text(doing: String, total: u64) -> Self {
        if io::stdout().is_terminal() && io::stderr().is_terminal() {
            return Self::shown_as(doing, total, Duration::MAX, Shown::Bar(None));
        }
        Self::new(doing, total)
    }

    fn shown_as(doing: String, total: u64, quiet: Duration, shown: Shown) -> Self {
        Self {
            doing,
            total,
            done: AtomicU64::new(0),
            began: Instant::now(),
            due: AtomicU64::new(millis(quiet)),
            shown: Mutex::new(shown),
        }
    }

    /// Adds bytes that are done. May be called on any thread.
    pub(crate) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let now = millis(self.began.elapsed());
        if now >= self.due.load(Ordering::Relaxed) {
            self.show(done, now);
        }
    }

    #[cold]
    fn show(&self, done: u64, now: u64) {
        // Another thread shows the progress now.
        let Ok(mut shown) = self.shown.try_lock() else {
            return;
        };
        match &mut *shown {
            Shown::Bar(bar) => {
                let bar = bar.get_or_insert_with(|| self.bar());
                bar.set_position(done);
                bar.set_prefix(pace(done, self.total, Duration::from_millis(now)));
                if done >= self.total {
                    bar.set_message(format!("{}, waiting for the disk", self.doing));
                }
                self.due.store(now + 100, Ordering::Relaxed);
            }
            Shown::Lines(to, every) => {
                let percent = u128::from(done) * 100 / u128::from(self.total.max(1));
                let (done, total) = (BinaryBytes(done), BinaryBytes(self.total));
                // If this fails, there is no other place for the text.
                let _ = writeln!(
                    to,
                    "swapmap: {}: {percent}% ({done} of {total})",
                    self.doing
                );
                self.due.store(now + millis(*every), Ordering::Relaxed);
            }
        }
    }

    fn bar(&self) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(self.total), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(
            "{msg} [{bar:30}] {percent}% of {binary_total_bytes}{prefix}",
        );
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(self.doing.clone());
        bar
    }
}

/// Returns the rate since the beginning, and the time that is left at this rate. Returns an empty text in the
/// first two seconds.
fn pace(done: u64, total: u64, elapsed: Duration) -> String {
    if elapsed < RATES || done == 0 {
        return String::new();
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "three digits are shown"
    )]
    let rate = (done as f64 / elapsed.as_secs_f64()) as u64;
    let left = Duration::from_secs(total.saturating_sub(done) / rate.max(1));
    format!(", {}/s, {} left", BinaryBytes(rate), HumanDuration(left))
}

impl Drop for Progress {
    /// Removes the bar.
    fn drop(&mut self) {
        let shown = self.shown.get_mut();
        if let Shown::Bar(Some(bar)) = shown.unwrap_or_else(PoisonError::into_inner) {
            bar.finish_and_clear();
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);

    impl Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(quiet: Duration, every: Duration) -> String {
        let text = Text::default();
        let shown = Shown::Lines(Box::new(text.clone()), every);
        let progress = Progress::shown_as("reading a".to_owned(), 4 << 20, quiet, shown);
        for _ in 0..4 {
            progress.add(1 << 20);
        }
        let text = text.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_rate_is_shown_after_two_seconds() {
        assert_eq!(pace(1 << 30, 4 << 30, Duration::from_millis(1999)), "");
        assert_eq!(pace(0, 4 << 30, Duration::from_secs(9)), "");
        let of = pace(1 << 30, 4 << 30, Duration::from_secs(4));
        assert_eq!(of, ", 256.00 MiB/s, 12 seconds left");
        assert!(pace(1, u64::MAX, Duration::from_secs(9)).ends_with(" years left"));
    }

    #[test]
    fn a_short_command_shows_nothing() {
        assert_eq!(lines(QUIET, LINES), "");
    }

    #[test]
    fn without_a_terminal_the_progress_is_shown_as_lines() {
        let each = lines(Duration::ZERO, Duration::ZERO);
        let first = "swapmap: reading a: 25% (1.00 MiB of 4.00 MiB)\n";
        assert!(each.starts_with(first), "{each}");
        assert!(each.ends_with("100% (4.00 MiB of 4.00 MiB)\n"), "{each}");
        assert_eq!(each.lines().count(), 4);
        // Only the first line: the next one comes after ten seconds.
        assert_eq!(lines(Duration::ZERO, LINES), first);
    }
}
