//! The file that holds the bytes of evicted pages.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use crate::options::Options;
use crate::{About, PAGE};

/// A swapfile, whose slots have one page each.
#[derive(Debug)]
pub(crate) struct Swapfile(pub(crate) File);

impl Swapfile {
    /// Makes the file and removes its name: it is gone when the last process closes it.
    pub(crate) fn make(options: &Options) -> io::Result<Self> {
        let name = format!(
            "swap-records-manager-{}-{}",
            std::process::id(),
            fastrand::u64(..)
        );
        let path = options
            .swapfile
            .clone()
            .unwrap_or_else(|| env::temp_dir().join(name));
        let what = |doing: &str| format!("{doing} the swapfile {}", path.display());
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .about(|| what("making"))?;
        fs::remove_file(&path).about(|| what("removing the name of"))?;
        let bytes = options.slots() * PAGE as u64;
        file.set_len(bytes)
            .about(|| format!("{} of {bytes} bytes", what("sizing")))?;
        Ok(Self(file))
    }

    /// Writes pages to slots from this one on.
    pub(crate) fn write(&self, slot: u64, pages: &[u8]) -> io::Result<()> {
        self.0.write_all_at(pages, slot * PAGE as u64).about(|| {
            format!(
                "writing {} pages to slot {slot} of the swapfile",
                pages.len() / PAGE
            )
        })
    }

    /// Reads the page of a slot.
    pub(crate) fn read(&self, slot: u64, page: &mut [u8; PAGE]) -> io::Result<()> {
        self.0
            .read_exact_at(page, slot * PAGE as u64)
            .about(|| format!("reading slot {slot} of the swapfile"))
    }
}
