//! [`Ends`]: the end of threads that go on until they are told.

use std::sync::atomic::{AtomicBool, Ordering};

/// Ends the threads that go on until it is set, also where an assertion fails before the end: they would keep the
/// scope, and the test, for ever.
#[derive(Debug)]
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
