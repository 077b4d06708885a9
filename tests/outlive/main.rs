//! Tables whose records lie in a file: what they leave when they are dropped, turned off, or killed, and
//! which files are refused.
#![cfg(all(target_os = "linux", feature = "std"))]
// Miri knows neither `memfd_create` nor shared maps of files, nor processes that are killed.
#![cfg(not(miri))]

mod child;
mod files;
mod handed_on;
mod kept;
mod killed;
mod others;
mod subject;
mod work;
