//! A lock that calls a hook of its thread at each event. So a test can pause a thread there, or unwind it.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::cell::{Cell, RefCell};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use lock_api::RawMutex;
use swap_records::RawSpinLock;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The thread is about to take or try a lock, and holds none. If it stops here, no other thread waits for
    /// it.
    First,
    /// The thread is about to take or try a lock: after `First`, and also if it holds another lock.
    Lock,
    /// A lock has been freed.
    Unlocked,
}

type Hook = Box<dyn FnMut(Event)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// A [`RawSpinLock`] that calls the hook of its thread.
pub(crate) struct Hooked(RawSpinLock);

fn tell(event: Event) {
    // Not for locks that are freed while a hook unwinds, and not for locks that the hook itself uses.
    if thread::panicking() {
        return;
    }
    let Some(mut hook) = HOOK.with_borrow_mut(Option::take) else {
        return;
    };
    hook(event);
    HOOK.with_borrow_mut(|next| {
        next.get_or_insert(hook);
    });
}

fn before() {
    if HELD.get() == 0 {
        tell(Event::First);
    }
    tell(Event::Lock);
}

// SAFETY: the inner lock excludes, and is taken and freed exactly when this lock is.
unsafe impl RawMutex for Hooked {
    const INIT: Self = Self(RawSpinLock::INIT);
    type Guard = <RawSpinLock as RawMutex>::Guard;

    fn lock(&self) {
        before();
        self.0.lock();
        HELD.set(HELD.get() + 1);
    }

    fn try_lock(&self) -> Option<()> {
        before();
        self.0.try_lock()?;
        HELD.set(HELD.get() + 1);
        Some(())
    }

    unsafe fn unlock(&self, (): ()) {
        HELD.set(HELD.get() - 1);
        // SAFETY: the caller holds it.
        unsafe { self.0.unlock(()) };
        tell(Event::Unlocked);
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

/// Runs `operation` with this hook, which is called once: before the `n`-th such event of this thread.
/// Returns the result, and whether the hook was called.
pub(crate) fn at<R>(
    event: Event,
    n: usize,
    hook: impl FnOnce() + 'static,
    operation: impl FnOnce() -> R,
) -> (R, bool) {
    let _hooked = Unhook;
    let mut hook = Some(hook);
    let mut left = n;
    HOOK.set(Some(Box::new(move |now| {
        if now != event || hook.is_none() {
            return;
        }
        if left > 0 {
            left -= 1;
        } else if let Some(hook) = hook.take() {
            CALLED.set(true);
            hook();
        }
    })));
    CALLED.set(false);
    let result = operation();
    (result, CALLED.get())
}

thread_local! {
    static CALLED: Cell<bool> = const { Cell::new(false) };
}

/// Removes the hook, also if the operation unwinds.
struct Unhook;

impl Drop for Unhook {
    fn drop(&mut self) {
        HOOK.set(None);
    }
}

/// Runs `operation` and calls this hook at every event.
pub(crate) fn each<R>(hook: impl FnMut(Event) + 'static, operation: impl FnOnce() -> R) -> R {
    let _hooked = Unhook;
    HOOK.set(Some(Box::new(hook)));
    operation()
}

/// Returns the number of such events in `operation`.
pub(crate) fn count<R>(event: Event, operation: impl FnOnce() -> R) -> usize {
    thread_local!(static EVENTS: Cell<usize> = const { Cell::new(0) });
    let _hooked = Unhook;
    EVENTS.set(0);
    HOOK.set(Some(Box::new(move |now| {
        if now == event {
            EVENTS.set(EVENTS.get() + 1);
        }
    })));
    operation();
    EVENTS.get()
}

/// A place where one thread reports that it has arrived, and waits until it may go on.
pub(crate) struct Stop {
    here: Sender<()>,
    go_on: Receiver<()>,
}

/// The other side of a [`Stop`]. When it is dropped, the thread goes on for good.
pub(crate) struct Stopped {
    here: Receiver<()>,
    _go_on: Sender<()>,
}

pub(crate) fn stop() -> (Stop, Stopped) {
    let (here, is_here) = channel();
    let (go, go_on) = channel();
    let stopped = Stopped {
        here: is_here,
        _go_on: go,
    };
    (Stop { here, go_on }, stopped)
}

impl Stop {
    pub(crate) fn wait(self) {
        let _ = self.here.send(());
        let _ = self.go_on.recv();
    }
}

impl Stopped {
    /// Waits until the other thread is there. Returns `false` if that thread ended before, or does not come
    /// in time.
    pub(crate) fn is_there(&self, within: Duration) -> bool {
        self.here.recv_timeout(within).is_ok()
    }

    pub(crate) fn go_on(self) {}
}

/// Long enough for anything that does not wait forever.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// Long enough for a thread to get to the place where it waits for this thread, if it does.
pub(crate) const SHORT: Duration = Duration::from_millis(20);
