//! The parts of the `swapmap` command: they read the machine, and show the result. They are a library so that
//! tests run the same code as the command. None of it is a stable interface.

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
