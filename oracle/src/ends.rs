//! Stops threads that run until they are told to: [`Ends`].

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets its flag when it is dropped, even if an assertion fails. Otherwise threads that run until the flag is
/// set would keep the scope, and the test, alive forever.
#[derive(Debug)]
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
