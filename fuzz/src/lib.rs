//! The inputs of the fuzz targets, made from any bytes. Ids and slots are few, so that operations meet, and
//! offsets are near borders. So the fuzzer spends its time in the interesting code.

mod bytes;
mod content;
mod image;
mod paste;

pub use bytes::{CmpxchgOps, ManyOps, TableOps, ThreadOps};
pub use content::{Content, Guarded};
pub use image::File;
