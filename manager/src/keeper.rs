//! Keeps descriptors while managers come and go. The descriptor store of a service manager does the same.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::Result;
use crate::wire::{self, Kind, Message, NUMBERS};

/// Keeps the guests that managers have taken in and not taken back, by their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(Arc<Mutex<BTreeMap<u64, Entry>>>);

#[derive(Debug)]
struct Entry {
    numbers: [u64; NUMBERS],
    fds: Vec<OwnedFd>,
}

impl Kept {
    /// Sends all guests to a manager that begins.
    pub(crate) fn hand_to(&self, manager: &UnixStream) -> Result<()> {
        for entry in self.0.lock().values() {
            let fds: Vec<BorrowedFd<'_>> = entry.fds.iter().map(AsFd::as_fd).collect();
            wire::send(manager, Kind::Guest, &entry.numbers, &fds)?;
        }
        Ok(())
    }

    /// Carries out the messages of a manager until the manager has ended, and returns the numbers of its last
    /// message. A message that was sent before a kill still counts.
    pub(crate) fn listen(&self, manager: &UnixStream) -> Result<Option<[u64; NUMBERS]>> {
        let mut ended = None;
        while let Some(Message { kind, numbers, fds }) = wire::receive(manager)? {
            match kind {
                Kind::Guest => {
                    self.0.lock().insert(numbers[0], Entry { numbers, fds });
                }
                Kind::Drop => {
                    self.0.lock().remove(&numbers[0]);
                }
                Kind::Ended => {
                    ended = Some(numbers);
                    continue;
                }
                other => return Err(format!("{other:?} is not a message of a manager").into()),
            }
            // A manager that was killed meanwhile does not wait for it.
            let _ = wire::send(manager, Kind::Kept, &[], &[]);
        }
        Ok(ended)
    }

    /// Returns the number of guests.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
