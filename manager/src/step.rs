//! Kills managers between two steps whose order matters. Kills at random moments seldom meet some of these
//! places. So with `--restart`, the command tells half of the managers where to end: when they come to this
//! step for this many times. With `--end-at`, it tells each of them, and `all` takes the steps one after another.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rustix::process::Signal;

/// Names a place where a manager may end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// An eviction: the pages are protected and read; in their slots; some are recorded there; some name their
    /// slots; all do; some are punched.
    Protected,
    Written,
    Recorded,
    SomeNamed,
    Named,
    Punched,
    /// A page on its way in: it says so; it is charged; its bytes are about to be copied; it is there; its
    /// slot is not free yet.
    Filling,
    SwappedIn,
    Copying,
    Filled,
    InMemory,
    /// A page that is touched for the first time: it is charged; it has an owner.
    Charged,
    Owned,
    /// A guest that comes: it has an id; it is kept.
    Created,
    Kept,
    /// A guest that has ended: some of its pages are uncharged; its records are gone; some of its pages are;
    /// some of the region are the host's; it has no id any more.
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

impl Step {
    /// Whether managers come to it only when a guest comes or has ended.
    pub(crate) fn is_of_guests(self) -> bool {
        matches!(
            self,
            Self::Created
                | Self::Kept
                | Self::Uncharged
                | Self::Cleared
                | Self::Freed
                | Self::Moved
                | Self::Removed
        )
    }
}

pub(crate) const STEPS: [Step; 23] = [
    Step::Protected,
    Step::Written,
    Step::Recorded,
    Step::SomeNamed,
    Step::Named,
    Step::Punched,
    Step::Filling,
    Step::SwappedIn,
    Step::Copying,
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

/// Where a manager ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    pub(crate) step: Step,
    times: u64,
}

impl End {
    pub(crate) fn random(random: &mut fastrand::Rng) -> Self {
        Self::soon(STEPS[random.usize(..STEPS.len())], random, 1)
    }

    /// At this step, after a random number of times. It comes earlier by this factor than by lot.
    fn soon(step: Step, random: &mut fastrand::Rng, factor: u64) -> Self {
        let most = match step {
            Step::Created | Step::Kept | Step::Removed | Step::Cleared => 4,
            Step::Repaired | Step::Marked | Step::Limited => 1,
            Step::Moved => 300,
            _ => 3000,
        };
        let times = random.u64(1..=(most / factor).max(1));
        Self { step, times }
    }
}

/// As a flag's value.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?},{}", self.step, self.times)
    }
}

impl FromStr for End {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "give all, or a step and a number, as in Recorded,17; manager/src/step.rs has the steps";
        let (name, times) = text.split_once(',').ok_or(wrong)?;
        let step = STEPS.into_iter().find(|step| format!("{step:?}") == name);
        let times = times.parse().ok().filter(|&times| times > 0);
        Ok(Self {
            step: step.ok_or(wrong)?,
            times: times.ok_or(wrong)?,
        })
    }
}

/// What `--end-at` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndAt {
    /// Each step, in a new random order each time.
    All,
    This(End),
}

impl fmt::Display for EndAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::This(end) => end.fmt(f),
        }
    }
}

impl FromStr for EndAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            _ => text.parse().map(Self::This),
        }
    }
}

/// The ends that managers still have to come to, one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule(VecDeque<End>);

impl Schedule {
    /// Returns the next end. After the last one, it begins anew.
    pub(crate) fn next(&mut self, asked: EndAt, random: &mut fastrand::Rng) -> Option<End> {
        if self.0.is_empty() {
            let mut steps = STEPS;
            random.shuffle(&mut steps);
            // Once all guests have ended that touched pages of the region first, the host pays for the whole region, and
            // no manager comes to this step again. So it is the first one.
            if let Some(at) = steps.iter().position(|&step| step == Step::Moved) {
                steps.swap(0, at);
            }
            let asked = match asked {
                EndAt::All => steps.map(|step| End::soon(step, random, 15)).to_vec(),
                EndAt::This(end) => vec![end],
            };
            for end in asked {
                // A restart has something to repair only after such an end.
                let before = match end.step {
                    Step::Repaired => Some([Step::Filling, Step::SwappedIn, Step::Filled]),
                    Step::Marked | Step::Limited => {
                        Some([Step::Recorded, Step::SomeNamed, Step::Filled])
                    }
                    _ => None,
                };
                let before = before.and_then(|steps| random.choice(steps));
                self.0
                    .extend(before.map(|step| End::soon(step, random, 15)));
                self.0.push_back(end);
            }
        }
        self.0.pop_front()
    }
}

/// Counts how often a manager comes to the step where it ends.
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

    /// Ends the manager, if it was told to end here, as if it was killed from outside.
    pub(crate) fn at(&self, step: Step) {
        self.at_if(step, || true);
    }

    /// Ends the manager as [`at`](Self::at) does, and counts only the times for which `counts` is true. A
    /// manager that has another end, or none, does not call it.
    pub(crate) fn at_if(&self, step: Step, counts: impl FnOnce() -> bool) {
        let is_end = self.end.is_some_and(|end| end.step == step) && counts();
        if is_end && self.left.fetch_sub(1, Relaxed) == 1 {
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
            // Until the signal is delivered.
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
            assert_eq!(end.to_string().parse(), Ok(end));
        }
        assert_eq!("all".parse(), Ok(EndAt::All));
        for wrong in ["", "Recorded", "Recorded,0", "What,3", "Recorded,x"] {
            assert!(wrong.parse::<End>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_round_of_ends_has_each_step_and_repairs_come_after_what_they_repair() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut schedule = Schedule::default();
        for _ in 0..50 {
            let first = schedule.next(EndAt::All, &mut random);
            let mut ends: Vec<End> = first.into_iter().collect();
            while !schedule.0.is_empty() {
                ends.extend(schedule.next(EndAt::All, &mut random));
            }
            assert_eq!(ends[0].step, Step::Moved);
            let has = |step| ends.iter().any(|end| end.step == step);
            assert!(STEPS.into_iter().all(has), "{ends:?}");
            let repaired = ends.iter().position(|end| end.step == Step::Repaired);
            let before = ends[repaired.unwrap() - 1].step;
            assert!([Step::Filling, Step::SwappedIn, Step::Filled].contains(&before));
        }
        let this = EndAt::This("Recorded,17".parse().unwrap());
        for _ in 0..3 {
            let end = Schedule::default().next(this, &mut random).unwrap();
            assert_eq!(end.to_string(), "Recorded,17");
        }
    }
}
