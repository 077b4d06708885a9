//! Kills in between two steps whose order matters. Kills at random moments seldom meet some of these, so with `--restart`
//! the command tells half of the managers where to end: at this step, when they come to it for this many times.

use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rustix::process::Signal;

/// A place where a manager may end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// An eviction: the pages are protected and read; in their slots; recorded there; some name their slots; all do; some
    /// are punched.
    Protected,
    Written,
    Recorded,
    SomeNamed,
    Named,
    Punched,
    /// A page on its way in: it says so; it is charged; it is there; its slot is not free yet.
    Filling,
    SwappedIn,
    Filled,
    InMemory,
    /// A page that is touched for the first time: it is charged; it has an owner.
    Charged,
    Owned,
    /// A guest that comes: it has an id; it is kept.
    Created,
    Kept,
    /// A guest that has ended: some of its pages are uncharged; its records are gone; some of its pages are; some of the
    /// region are the host's; it has no id any more.
    Uncharged,
    Cleared,
    Freed,
    Moved,
    Removed,
    /// A restart: a page was repaired; the slots are right; the limits are.
    Repaired,
    Marked,
    Limited,
}

const STEPS: [Step; 22] = [
    Step::Protected,
    Step::Written,
    Step::Recorded,
    Step::SomeNamed,
    Step::Named,
    Step::Punched,
    Step::Filling,
    Step::SwappedIn,
    Step::Filled,
    Step::InMemory,
    Step::Charged,
    Step::Owned,
    Step::Created,
    Step::Kept,
    Step::Uncharged,
    Step::Cleared,
    Step::Freed,
    Step::Moved,
    Step::Removed,
    Step::Repaired,
    Step::Marked,
    Step::Limited,
];

/// Where a manager is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    step: Step,
    times: u64,
}

impl End {
    pub(crate) fn random(random: &mut fastrand::Rng) -> Self {
        let step = STEPS[random.usize(..STEPS.len())];
        let most = match step {
            Step::Created | Step::Kept | Step::Removed | Step::Cleared => 4,
            Step::Repaired | Step::Marked | Step::Limited => 1,
            Step::Moved => 300,
            _ => 3000,
        };
        let times = random.u64(1..=most);
        Self { step, times }
    }

    /// As a flag's value.
    pub(crate) fn to_arg(self) -> String {
        format!("{:?},{}", self.step, self.times)
    }
}

impl FromStr for End {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "give a step and a number, as in Recorded,17";
        let (name, times) = text.split_once(',').ok_or(wrong)?;
        let step = STEPS.into_iter().find(|step| format!("{step:?}") == name);
        let times = times.parse().ok().filter(|&times| times > 0);
        Ok(Self {
            step: step.ok_or(wrong)?,
            times: times.ok_or(wrong)?,
        })
    }
}

/// Counts the times.
#[derive(Debug)]
pub(crate) struct Steps {
    end: Option<End>,
    left: AtomicU64,
}

impl Steps {
    pub(crate) fn new(end: Option<End>) -> Self {
        let left = AtomicU64::new(end.map_or(0, |end| end.times));
        Self { end, left }
    }

    /// Here the manager may end, as if it was killed from outside.
    pub(crate) fn at(&self, step: Step) {
        if self.end.is_some_and(|end| end.step == step) && self.left.fetch_sub(1, Relaxed) == 1 {
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
            // Until it is delivered.
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_comes_back_from_its_flag() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let end = End::random(&mut random);
            assert_eq!(end.to_arg().parse(), Ok(end));
        }
        for wrong in ["", "Recorded", "Recorded,0", "What,3", "Recorded,x"] {
            assert!(wrong.parse::<End>().is_err(), "{wrong}");
        }
    }
}
