//! Keeps the same books in a `HashMap`, as a manager without this crate could. When a guest dies, it looks at
//! every record. Nothing outlives the process.

use std::collections::HashMap;

use parking_lot::Mutex;
use swap_records::{MemcgId, SwapEntry};

use crate::Result;
use crate::books::{Books, Freed, Held, Piece, Refused};

/// Has one lock for everything.
#[derive(Debug)]
pub(crate) struct Plain {
    books: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    records: HashMap<SwapEntry, MemcgId>,
    owners: HashMap<MemcgId, Owner>,
    /// Pages in memory, of all owners.
    memory: u64,
    limit: u64,
    next: u16,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    held: Held,
    limit: u64,
    online: bool,
}

const HOST: MemcgId = MemcgId::MIN;

impl Plain {
    pub(crate) fn new() -> Self {
        let host = Owner {
            held: Held::default(),
            limit: u64::MAX,
            online: true,
        };
        let books = Mutex::new(Open {
            records: HashMap::new(),
            owners: HashMap::from([(HOST, host)]),
            memory: 0,
            limit: u64::MAX,
            next: HOST.get(),
        });
        Self { books }
    }
}

impl Open {
    fn owner(&mut self, id: MemcgId) -> Result<&mut Owner> {
        let owner = self.owners.get_mut(&id);
        owner.ok_or_else(|| format!("there is no owner {id}").into())
    }

    fn charge(&mut self, id: MemcgId, nr: u64) -> Result<(), Refused> {
        if self.memory + nr > self.limit {
            return Err(Refused::Full(HOST));
        }
        let owner = self.owner(id)?;
        if owner.held.memory + nr > owner.limit {
            return Err(Refused::Full(id));
        }
        owner.held.memory += nr;
        self.memory += nr;
        Ok(())
    }

    fn uncharge(&mut self, id: MemcgId, nr: u64) -> Result<()> {
        let owner = self.owner(id)?;
        let left = owner.held.memory.checked_sub(nr);
        owner.held.memory = left.ok_or("more is uncharged than was charged")?;
        self.memory -= nr;
        Ok(())
    }
}

impl Books for Plain {
    fn host(&self) -> MemcgId {
        HOST
    }

    fn create(&self, limit: u64) -> Result<MemcgId> {
        let mut books = self.books.lock();
        let id = loop {
            books.next = books.next.wrapping_add(1);
            match MemcgId::new(books.next) {
                Some(id) if !books.owners.contains_key(&id) => break id,
                _ => {}
            }
        };
        let held = Held::default();
        let online = true;
        books.owners.insert(
            id,
            Owner {
                held,
                limit,
                online,
            },
        );
        Ok(id)
    }

    fn limit(&self, id: MemcgId, pages: u64) -> Result<bool> {
        let mut books = self.books.lock();
        if id == HOST {
            books.limit = pages;
            return Ok(books.memory <= pages);
        }
        let owner = books.owner(id)?;
        owner.limit = pages;
        Ok(owner.held.memory <= pages)
    }

    fn charge(&self, id: MemcgId, nr: u64) -> Result<(), Refused> {
        self.books.lock().charge(id, nr)
    }

    fn uncharge(&self, id: MemcgId, nr: u64) -> Result<()> {
        self.books.lock().uncharge(id, nr)
    }

    fn swap_out(&self, id: MemcgId, piece: Piece<'_>) -> Result<MemcgId> {
        let slots = piece.slots();
        let mut books = self.books.lock();
        let nr = slots.len() as u64;
        books.uncharge(id, nr)?;
        let owner = books.owner(id)?;
        let payer = if owner.online { id } else { HOST };
        books.owner(payer)?.held.swap += nr;
        for &entry in slots {
            if books.records.insert(entry, payer).is_some() {
                return Err(format!("{entry} has an owner").into());
            }
        }
        Ok(payer)
    }

    fn swap_in(&self, slot: SwapEntry) -> Result<MemcgId, Refused> {
        let mut books = self.books.lock();
        let found = books.records.get(&slot).copied();
        let id = found.ok_or_else(|| format!("{slot} has no owner"))?;
        let payer = if books.owner(id)?.online { id } else { HOST };
        books.charge(payer, 1)?;
        books.records.remove(&slot);
        books.owner(id)?.held.swap -= 1;
        Ok(payer)
    }

    fn free(&self, slots: &[SwapEntry], owner: MemcgId) -> Result<Freed> {
        let mut books = self.books.lock();
        let mut freed = Freed::default();
        for slot in slots {
            if let Some(id) = books.records.remove(slot) {
                books.owner(id)?.held.swap -= 1;
                freed.owned += u64::from(id == owner);
                freed.others += u64::from(id != owner);
            }
        }
        Ok(freed)
    }

    fn offline(&self, id: MemcgId) -> Result<()> {
        self.books.lock().owner(id)?.online = false;
        Ok(())
    }

    fn move_to_host(&self, id: MemcgId, nr: u64) -> Result<()> {
        let mut books = self.books.lock();
        books.owner(id)?.held.memory -= nr;
        books.owner(HOST)?.held.memory += nr;
        Ok(())
    }

    fn remove(&self, id: MemcgId) -> Result<u64> {
        let mut books = self.books.lock();
        let mut moved = 0;
        for owner in books.records.values_mut().filter(|owner| **owner == id) {
            *owner = HOST;
            moved += 1;
        }
        let owner = books.owners.remove(&id).ok_or("there is no such owner")?;
        let left = Held {
            memory: 0,
            swap: moved,
        };
        if owner.held != left {
            return Err(format!("{:?} is charged, {left:?} is there", owner.held).into());
        }
        books.owner(HOST)?.held.swap += moved;
        Ok(moved)
    }

    fn held(&self, id: MemcgId) -> Result<Held> {
        Ok(self.books.lock().owner(id)?.held)
    }

    fn all(&self) -> Result<(Held, u64)> {
        let books = self.books.lock();
        let swap: u64 = books.owners.values().map(|owner| owner.held.swap).sum();
        if swap != books.records.len() as u64 {
            return Err(format!(
                "{swap} slots are charged, {} have a record",
                books.records.len()
            )
            .into());
        }
        let memory = books.memory;
        Ok((Held { memory, swap }, books.owners.len() as u64))
    }
}
