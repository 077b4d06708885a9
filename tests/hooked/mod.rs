//! A lock that tells its thread what happens to it, so that a test can pause a thread, or unwind, at each.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::cell::{Cell, RefCell};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use lock_api::RawMutex;
use swap_records::RawSpinLock;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// A lock is about to be taken, or tried, by a thread that has none: where it keeps nobody waiting if it stops.
    First,
    /// After that, and where the thread has one already.
    Lock,
    /// One has been freed.
    Unlocked,
}

type Hook = Box<dyn FnMut(Event)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// [`RawSpinLock`], which calls the hook of its thread.
pub(crate) struct Hooked(RawSpinLock);

fn tell(event: Event) {
    // Not about what is dropped by a hook that unwinds, and not about what the hook itself does.
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

/// Runs `operation` with this hook, which is called once: before the `n`-th such event of this thread. Gives whether it
/// was, too.
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

/// Also where the operation unwinds.
struct Unhook;

impl Drop for Unhook {
    fn drop(&mut self) {
        HOOK.set(None);
    }
}

/// Runs `operation` with this hook at all events.
pub(crate) fn each<R>(hook: impl FnMut(Event) + 'static, operation: impl FnOnce() -> R) -> R {
    let _hooked = Unhook;
    HOOK.set(Some(Box::new(hook)));
    operation()
}

/// How many such events there are in `operation`.
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

/// A place where one thread says that it has come to it, and waits until it may go on.
pub(crate) struct Stop {
    here: Sender<()>,
    go_on: Receiver<()>,
}

/// The other side of a [`Stop`]. Dropped, it lets go on for good.
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
    /// Waits until the other thread is there; `false` where it ended without, or does not come.
    pub(crate) fn is_there(&self, within: Duration) -> bool {
        self.here.recv_timeout(within).is_ok()
    }

    pub(crate) fn go_on(self) {}
}

/// Long enough for anything that does not wait for ever.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// Long enough for a thread to get where it waits for this one, if it does.
pub(crate) const SHORT: Duration = Duration::from_millis(20);
