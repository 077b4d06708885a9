//! What the crate uses in place of `core`'s atomics under `--cfg swap_records_loom`: loom's atomics, and
//! loom's yield in place of spinning. Loom runs a model in every order of its threads. `tests/loom.rs` has
//! the models.
//!
//! Loom registers an atomic with the model that is running, so it cannot create one in a constant. An atomic
//! of this module keeps its first value instead, and creates loom's atomic at the first access. To loom, that
//! is a plain write, which must happen before every other access. So the first access must come before
//! threads share the atomic; otherwise the model fails.

use std::sync::OnceLock;

pub(crate) use ::loom::sync::atomic::{Ordering, fence};

macro_rules! atomics {
    ($($atomic:ident$(<$t:ident>)?, $value:ty;)*) => {$(
        #[derive(Debug)]
        pub(crate) struct $atomic$(<$t>)? {
            first: $value,
            made: OnceLock<::loom::sync::atomic::$atomic$(<$t>)?>,
        }

        #[allow(dead_code, reason = "the methods are those of all atomics")]
        impl$(<$t>)? $atomic$(<$t>)? {
            pub(crate) const fn new(first: $value) -> Self {
                Self { first, made: OnceLock::new() }
            }

            #[track_caller]
            fn made(&self) -> &::loom::sync::atomic::$atomic$(<$t>)? {
                self.made.get_or_init(|| ::loom::sync::atomic::$atomic::new(self.first))
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.made().load(order)
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.made().store(value, order);
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.made().compare_exchange(current, new, success, failure)
            }

            /// Takes loom's atomic away. The next access creates a new one from the value.
            #[track_caller]
            pub(crate) fn get_mut(&mut self) -> &mut $value {
                if let Some(made) = self.made.take() {
                    self.first = made.load(Ordering::Relaxed);
                }
                &mut self.first
            }
        }
    )*};
}

atomics! {
    AtomicBool, bool;
    AtomicU16, u16;
    AtomicU32, u32;
    AtomicU64, u64;
    AtomicPtr<T>, *mut T;
}

// SAFETY: as for the pointer atomic of `core`. `first` is only written through `&mut`.
unsafe impl<T> Send for AtomicPtr<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for AtomicPtr<T> {}

macro_rules! integers {
    ($($atomic:ident, $value:ty, $($method:ident),*;)*) => {$(
        #[allow(dead_code, reason = "as above")]
        impl $atomic {
            $(
                #[track_caller]
                pub(crate) fn $method(&self, value: $value, order: Ordering) -> $value {
                    self.made().$method(value, order)
                }
            )*
        }
    )*};
}

integers! {
    AtomicU16, u16, fetch_or, fetch_and;
    AtomicU32, u32, fetch_or, fetch_and;
    AtomicU64, u64, fetch_or, fetch_and, fetch_add, fetch_sub;
}

impl AtomicU64 {
    #[track_caller]
    pub(crate) fn fetch_update(
        &self,
        set: Ordering,
        fetch: Ordering,
        with: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        self.made().fetch_update(set, fetch, with)
    }
}

/// The part of `crossbeam_utils::Backoff` that is used. `snooze` returns after another thread has run.
pub(crate) struct Backoff;

impl Backoff {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn snooze(&self) {
        ::loom::thread::yield_now();
    }
}
