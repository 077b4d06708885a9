//! Watches the changes that an unfinished operation must take into account.

use std::collections::{BTreeMap, BTreeSet};

use swap_records::{MemcgId, Run};

use super::Slot;

/// The slots that were not changed since the watch began, and all owners that the other slots have had.
#[derive(Debug)]
pub(super) struct Watch {
    unchanged: BTreeMap<Slot, MemcgId>,
    meanwhile: BTreeMap<Slot, BTreeSet<Option<MemcgId>>>,
}

impl Watch {
    pub(super) fn new(records: impl Iterator<Item = (Slot, MemcgId)>) -> Self {
        Self {
            unchanged: records.collect(),
            meanwhile: BTreeMap::new(),
        }
    }

    pub(super) fn changed(&mut self, slot: Slot, from: Option<MemcgId>, to: Option<MemcgId>) {
        self.unchanged.remove(&slot);
        self.meanwhile.entry(slot).or_default().extend([from, to]);
    }

    /// Returns the slots that were not changed.
    pub(super) fn unchanged(&self) -> impl Iterator<Item = (&Slot, &MemcgId)> {
        self.unchanged.iter()
    }

    /// Checks a run that an iterator returned: each slot must have had that owner at some time since the
    /// watch began.
    pub(super) fn saw(&mut self, run: Run) {
        let start = run.start.offset();
        for offset in start..start + run.len {
            let slot = (run.start.swap_type().get(), offset);
            match self.unchanged.remove(&slot) {
                Some(owner) => assert_eq!(owner, run.id, "{slot:?} in {run:?}"),
                None => assert!(
                    self.meanwhile
                        .get(&slot)
                        .is_some_and(|owners| owners.contains(&Some(run.id))),
                    "{slot:?} never had the owner of {run:?}"
                ),
            }
        }
    }
}
