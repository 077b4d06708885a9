//! Keeps the manager's books with `swap_records`: [`Memcgs`] over a table whose records outlive the process.

use std::os::fd::OwnedFd;

use swap_records::file::RecordFile;
use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource};
use swap_records::{MemcgId, RawSpinLock, Run, SwapEntry, SwapRecords};

use crate::Result;
use crate::books::{Books, Freed, Held, Piece, Refused, TYPE, pieces};

/// A tree of cgroups: the root, the host below it, and the guests below the host.
#[derive(Debug)]
pub(crate) struct Tree {
    memcgs: Memcgs,
    host: Memcg,
}

impl Tree {
    /// Makes the tree over the records of a file. If the file has records already, `guests` are the ids that
    /// had a guest.
    pub(crate) fn open(records: OwnedFd, guests: &[MemcgId]) -> Result<Self> {
        // docs: open
        let file = RecordFile::from_memfd(records)?;
        let table = SwapRecords::<RawSpinLock>::new();
        table
            .swapon_file(TYPE, file.max_pages()?, &file)
            .threads(2)
            .run()?;
        // Parents first. Each cgroup is charged for the records that the table has.
        let below_root = [(HOST, MemcgId::MIN)];
        let below_host = guests.iter().map(|&guest| (guest, HOST));
        let memcgs = Memcgs::with_records(table, below_root.into_iter().chain(below_host))?;
        // docs: end
        let host = memcgs.find(HOST).ok_or("the host was just made")?;
        Ok(Self { memcgs, host })
    }

    /// Returns all records, run by run.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.memcgs.records().runs(TYPE)
    }

    fn find(&self, id: MemcgId) -> Result<Memcg> {
        self.memcgs
            .find(id)
            .ok_or_else(|| format!("no cgroup has the id {id}").into())
    }
}

/// The lowest id but the root's.
const HOST: MemcgId = match MemcgId::new(2) {
    Some(id) => id,
    None => MemcgId::MIN,
};

fn refused(error: MemcgError) -> Refused {
    match error {
        // docs: refused
        // A limit refused, maybe that of an ancestor: `id` says whose pages to evict.
        MemcgError::OverLimit { id, .. } => Refused::Full(id),
        // docs: end
        error => Refused::Failed(error.into()),
    }
}

impl Books for Tree {
    fn host(&self) -> MemcgId {
        HOST
    }

    fn create(&self, limit: u64) -> Result<MemcgId> {
        // docs: create
        let guest = self.memcgs.create(self.host)?;
        self.memcgs
            .set_limit(guest, Resource::Memory, Some(limit))?;
        Ok(guest.id())
        // docs: end
    }

    fn limit(&self, id: MemcgId, pages: u64) -> Result<bool> {
        let set = self
            .memcgs
            .set_limit(self.find(id)?, Resource::Memory, Some(pages));
        match set {
            Ok(()) => Ok(true),
            Err(MemcgError::LimitBelowUsage { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn charge(&self, id: MemcgId, nr: u64) -> Result<(), Refused> {
        // docs: charge
        let guest = self.find(id)?;
        self.memcgs.charge(guest, nr).map_err(refused)
        // docs: end
    }

    fn uncharge(&self, id: MemcgId, nr: u64) -> Result<()> {
        Ok(self.memcgs.uncharge(self.find(id)?, nr)?)
    }

    fn swap_out(&self, id: MemcgId, piece: Piece<'_>) -> Result<MemcgId> {
        // docs: swap_out
        let guest = self.find(id)?;
        // If the guest is offline by now, its parent owns the records.
        let owner = match piece {
            Piece::Range(start, slots) => self.memcgs.swap_out(guest, start, slots.len() as u64)?,
            Piece::Scattered(slots) => self.memcgs.swap_out_batch(guest, slots)?,
        };
        Ok(owner.id())
        // docs: end
    }

    fn swap_in(&self, slot: SwapEntry) -> Result<MemcgId, Refused> {
        // docs: swap_in
        // The owner of the record pays. If it is offline, its first ancestor that is online pays.
        let payer = self.memcgs.swap_in(slot, 1).map_err(refused)?;
        Ok(payer.id())
        // docs: end
    }

    fn free(&self, slots: &[SwapEntry], owner: MemcgId) -> Result<Freed> {
        // docs: free_slots
        let mut freed = Freed::default();
        // The callback gets each owner, so that the caller can check it against its own words.
        let mut count = |of, nr| match of == owner {
            true => freed.owned += nr,
            false => freed.others += nr,
        };
        for piece in pieces(slots) {
            match piece {
                Piece::Range(start, slots) => {
                    self.memcgs
                        .free_swap_with(start, slots.len() as u64, |run| count(run.id, run.len))?
                }
                Piece::Scattered(slots) => self
                    .memcgs
                    .free_swap_batch(slots, |_slot, of| count(of, 1))?,
            };
        }
        Ok(freed)
        // docs: end
    }

    fn offline(&self, id: MemcgId) -> Result<()> {
        // docs: offline
        // From here on nothing more is charged to the guest, whatever was under way. It keeps its records for
        // now: most of them are about to be freed, so the budget is 0.
        self.memcgs.css_offline(self.find(id)?, 0)?;
        // docs: end
        Ok(())
    }

    fn move_to_host(&self, id: MemcgId, nr: u64) -> Result<()> {
        Ok(self.memcgs.move_account(self.find(id)?, self.host, nr)?)
    }

    fn remove(&self, id: MemcgId) -> Result<u64> {
        // docs: free
        // The remaining records are the host's now, and the id is free for the next guest.
        let moved = self.memcgs.css_free(self.find(id)?)?;
        Ok(moved.moved)
        // docs: end
    }

    fn held(&self, id: MemcgId) -> Result<Held> {
        let usage = self.memcgs.usage(self.find(id)?)?;
        let (memory, swap) = (usage.own, usage.swap);
        Ok(Held { memory, swap })
    }

    fn all(&self) -> Result<(Held, u64)> {
        let usage = self.memcgs.usage(self.memcgs.root())?;
        let swap = usage.memsw - usage.memory;
        let recorded = self.memcgs.records().owners().map(|(_, nr)| nr).sum();
        if swap != recorded || swap != usage.swap_total {
            let total = usage.swap_total;
            return Err(format!(
                "{swap} and {total} slots are charged, and {recorded} have a record"
            )
            .into());
        }
        let memory = usage.memory;
        // Without the root.
        let owners = u64::from(self.memcgs.ids_in_use()) - 1;
        Ok((Held { memory, swap }, owners))
    }
}
