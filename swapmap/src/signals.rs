//! Signals that end a command while it writes a file: SIGINT, SIGTERM and SIGHUP.
//!
//! **Invariant: an incomplete file is removed before one of these signals ends the command.** A long write asks [`Stop::requested`] and ends by itself. During a short one the signals wait
//! ([`held`]).

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

const SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// The signal that arrived; 0 if none did. Relaxed: no other memory depends on it.
static ARRIVED: AtomicI32 = AtomicI32::new(0);

extern "C" fn arrived(signal: i32) {
    ARRIVED.store(signal, Ordering::Relaxed);
}

/// Lets a write past the limit of `ulimit -f` fail with `EFBIG`. By default SIGXFSZ would end this process, and
/// leave the incomplete file.
pub(crate) fn survive_file_size_limit() {
    // SAFETY: to ignore a signal needs no handler. No other thread has started.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// While this exists, the first signal is remembered and does not end the command. The second one does.
pub(crate) struct Stop(Vec<(i32, libc::sigaction)>);

impl Stop {
    /// Begins to remember signals. A signal that is ignored, as under `nohup`, stays ignored.
    pub(crate) fn begin() -> Self {
        ARRIVED.store(0, Ordering::Relaxed);
        let mut before = Vec::new();
        for signal in SIGNALS {
            // SAFETY: all zeros is a `sigaction` without flags and with an empty mask.
            let mut new: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
            new.sa_sigaction = (arrived as extern "C" fn(i32) as *const ()).expose_provenance();
            new.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
            let mut old = new;
            // SAFETY: asks for the action of a signal; `old` has room for it.
            let asked = unsafe { libc::sigaction(signal, ptr::null(), &raw mut old) };
            if asked != 0 || old.sa_sigaction != libc::SIG_DFL {
                continue;
            }
            // SAFETY: the handler makes one atomic store, which is async-signal-safe.
            if unsafe { libc::sigaction(signal, &raw const new, ptr::null_mut()) } == 0 {
                before.push((signal, old));
            }
        }
        Self(before)
    }

    /// Returns whether a signal has arrived.
    pub(crate) fn requested(&self) -> bool {
        ARRIVED.load(Ordering::Relaxed) != 0
    }

    /// Ends this process by the signal that has arrived, as if it had not been held up. Returns if none has.
    pub(crate) fn end_by_signal(self) {
        let signal = ARRIVED.load(Ordering::Relaxed);
        drop(self);
        if signal != 0 {
            // SAFETY: the action of the signal is the default one again, which ends this process.
            unsafe { libc::raise(signal) };
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        for (signal, old) in &self.0 {
            // SAFETY: sets the action that the signal had before.
            unsafe { libc::sigaction(*signal, ptr::from_ref(old), ptr::null_mut()) };
        }
    }
}

/// Calls `write` with the signals blocked for this thread and the threads that it starts. A signal that
/// arrives meanwhile ends the process afterwards, if this is its only thread.
pub(crate) fn held<T>(write: impl FnOnce() -> T) -> T {
    // SAFETY: all zeros is a set of signals, which the next call empties.
    let mut set: libc::sigset_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `set` has room for a set.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in SIGNALS {
        // SAFETY: `set` is a set, and `signal` a signal.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    let mut before = set;
    // SAFETY: reads `set`, and writes the mask of this thread to `before`.
    let blocked =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
    let done = write();
    if blocked == 0 {
        // SAFETY: `before` is the mask that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    }
    done
}
