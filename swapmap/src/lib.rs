//! The parts of the `swapmap` command: what it reads, and how it shows that. They are a library so that the tests hold
//! the code that the command runs; nothing here is an interface to rely on.

#![allow(
    missing_docs,
    missing_debug_implementations,
    reason = "not an interface: the command's help is its documentation"
)]

pub mod forms;
pub mod map_picture;
pub mod names;
pub mod picture;
pub mod reading;
pub mod report;
