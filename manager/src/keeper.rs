//! What the command keeps while managers come and go: descriptors. A service manager's descriptor store does the same.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::Result;
use crate::wire::{self, Kind, Message, NUMBERS};

/// The guests that managers have taken in and not seen to their end, by their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(Arc<Mutex<BTreeMap<u64, Entry>>>);

#[derive(Debug)]
struct Entry {
    numbers: [u64; NUMBERS],
    fds: Vec<OwnedFd>,
}

impl Kept {
    /// Hands all of it to a manager that begins.
    pub(crate) fn hand_to(&self, manager: &UnixStream) -> Result<()> {
        for entry in self.0.lock().values() {
            let fds: Vec<BorrowedFd<'_>> = entry.fds.iter().map(AsFd::as_fd).collect();
            wire::send(manager, Kind::Guest, &entry.numbers, &fds)?;
        }
        Ok(())
    }

    /// Takes what a manager says until it has ended, and gives what it said at its end. All that it said before it was
    /// killed is taken.
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
                other => return Err(format!("{other:?} is no message of a manager").into()),
            }
            // A manager that was killed meanwhile does not wait for it.
            let _ = wire::send(manager, Kind::Kept, &[], &[]);
        }
        Ok(ended)
    }

    /// How many guests there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
