//! Tells another thread the progress of a reading.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The progress of a reading. It is only displayed, so every access is relaxed.
#[derive(Debug, Default)]
pub struct Watch {
    read: AtomicU64,
    total: AtomicU64,
    waits: AtomicBool,
}

impl Watch {
    /// Returns the progress as text.
    pub fn doing(&self) -> String {
        if self.waits.load(Ordering::Relaxed) {
            return "waiting for the kernel's figures, which may be 2 s old".to_owned();
        }
        let read = self.read.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed);
        format!("reading processes: {read} of {total}")
    }

    /// Returns whether the reading waits for newer figures of the kernel.
    pub fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Begins to count up to `processes`.
    pub(super) fn begin(&self, processes: usize) {
        self.read.store(0, Ordering::Relaxed);
        self.total.store(processes as u64, Ordering::Relaxed);
        self.waits.store(false, Ordering::Relaxed);
    }

    pub(super) fn one_more(&self) {
        self.read.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn wait(&self) {
        self.waits.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_shows_the_progress() {
        let watch = Watch::default();
        watch.begin(9);
        watch.one_more();
        assert_eq!(watch.doing(), "reading processes: 1 of 9");
        watch.wait();
        assert!(
            watch.waits()
                && watch
                    .doing()
                    .starts_with("waiting for the kernel's figures")
        );
    }
}
