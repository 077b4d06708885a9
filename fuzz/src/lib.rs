//! The inputs of the fuzz targets, made of any bytes. They are bounded so that the fuzzer spends its
//! time inside: few ids and slots, so that they meet, and offsets near the borders of something.

mod bytes;
mod content;
mod image;
mod paste;

pub use bytes::{CmpxchgOps, ManyOps, TableOps, ThreadOps};
pub use content::{Content, Guarded};
pub use image::File;
