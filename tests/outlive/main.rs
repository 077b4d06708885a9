//! Tables whose records are in a file: what remains in the file when the table is dropped, turned off or
//! killed, and which files are refused.
#![cfg(all(target_os = "linux", feature = "std"))]
// Miri supports neither `memfd_create` nor shared maps of files, nor killed processes.
#![cfg(not(miri))]

mod child;
mod files;
mod handed_on;
mod kept;
mod killed;
mod others;
mod subject;
mod work;
