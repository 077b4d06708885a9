//! The documents of the repository as pages.
//!
//! | page | what it is |
//! | --- | --- |
//! | [`design`] | structure, invariants, memory, and why the choices were made |
//! | [`concurrency`] | the lock, the atomics, what each operation promises beside others, where `unsafe` is |
//! | [`manager`] | how to build a memory manager over userfaultfd on this crate, step by step |
//! | [`image_format`] | an image of a table, byte by byte, and how to read one from Python |
//! | [`porting`] | what to call here in place of the kernel's functions, or of a table of your own |
//! | [`benchmarks`] | what the table costs, beside what one would use otherwise |
//! | [`testing`] | what is checked by what, and how to fuzz |
//! | [`changelog`] | what changed from version to version |

// In a document, a link goes to a file beside it. The definitions that stand before the text take precedence over those
// at its end, so that here the same link goes to a page.
/// How swap-records works, and why.
#[doc = ""]
#[doc = "[benchmarks.md]: crate::docs::benchmarks"]
#[doc = "[concurrency.md]: crate::docs::concurrency"]
#[doc = "[image-format.md]: crate::docs::image_format"]
#[doc = "[manager.md]: crate::docs::manager"]
#[doc = ""]
#[doc = include_str!("../docs/design.md")]
pub mod design {}

/// Threads, memory ordering, and what proves it.
#[doc = ""]
#[doc = "[design.md]: crate::docs::design"]
#[doc = "[memory-cgroups]: crate::docs::design#memory-cgroups"]
#[doc = ""]
#[doc = include_str!("../docs/concurrency.md")]
pub mod concurrency {}

/// An image of a table, byte by byte.
#[doc = ""]
#[doc = include_str!("../docs/image-format.md")]
pub mod image_format {}

/// What to call in place of the kernel's functions, or of a table of your own.
#[doc = ""]
#[doc = "[benchmarks.md]: crate::docs::benchmarks"]
#[doc = ""]
#[doc = include_str!("../docs/porting.md")]
pub mod porting {}

/// How to build a memory manager on this crate.
#[doc = ""]
#[doc = include_str!("../docs/manager.md")]
pub mod manager {}

/// What the table costs, and how that is measured.
#[doc = ""]
#[doc = "[design.md]: crate::docs::design"]
#[doc = "[locks]: crate::docs::design#locks"]
#[doc = ""]
#[doc = include_str!("../docs/benchmarks.md")]
// A picture is a file beside the document. Here there are no files: the pictures stand in the page itself.
#[doc = "\n<style>img[src$='.svg'] { display: none }</style>\n\n## Plots"]
#[doc = "\n<div>\n"]
#[doc = include_str!("../docs/bench-hand-over.svg")]
#[doc = "\n</div>\n\n<div>\n"]
#[doc = include_str!("../docs/bench-bandwidth.svg")]
#[doc = "\n</div>\n\n<div>\n"]
#[doc = include_str!("../docs/bench-operations.svg")]
#[doc = "\n</div>\n\n<div>\n"]
#[doc = include_str!("../docs/bench-threads.svg")]
#[doc = "\n</div>\n\n<div>\n"]
#[doc = include_str!("../docs/bench-latency.svg")]
#[doc = "\n</div>\n\n<div>\n"]
#[doc = include_str!("../docs/bench-memory.svg")]
#[doc = "\n</div>\n"]
pub mod benchmarks {}

/// Where the text of a table without `std` is, and what was tried to reduce it.
#[doc = include_str!("../docs/text-size.md")]
pub mod text_size {}

/// What is checked by what.
#[doc = ""]
#[doc = "[concurrency.md]: crate::docs::concurrency"]
#[doc = ""]
#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

/// What changed from version to version.
#[doc = ""]
#[doc = "[docs/concurrency.md]: crate::docs::concurrency"]
#[doc = "[docs/image-format.md]: crate::docs::image_format"]
#[doc = "[docs/manager.md]: crate::docs::manager"]
#[doc = "[docs/testing.md]: crate::docs::testing"]
#[doc = ""]
#[doc = include_str!("../CHANGELOG.md")]
pub mod changelog {}
