//! The documents of the repository, as pages of rustdoc.
//!
//! | page | contents |
//! | --- | --- |
//! | [`glossary`] | the terms that the code and all pages use |
//! | [`design`] | how the table works: structure, operations, invariants, memory |
//! | [`memcg`] | how the tree of cgroups works |
//! | [`files`] | how images and files of records work |
//! | [`memory`] | how memory is given back, and how a table works without an operating system |
//! | [`text_size`] | where the text of a table without `std` is |
//! | [`decisions`] | the alternatives that were measured or considered |
//! | [`concurrency`] | the lock, the atomics, what each operation guarantees while others run, where `unsafe` is |
//! | [`manager`] | how to build a memory manager over userfaultfd on this crate, step by step |
//! | [`limits`] | limits, and what to know before you rely on them |
//! | [`image_format`] | an image of a table, byte by byte, and how to read one from Python |
//! | [`porting`] | what to call here in place of the kernel's functions, or of a table of your own |
//! | [`benchmarks`] | what the table costs, compared with the alternatives |
//! | [`testing`] | what is checked, and by which test |
//! | [`fuzzing`] | the fuzz targets, and how a crash becomes a test |
//! | [`changelog`] | what changed from version to version |

// In a document, a link goes to a file in the same directory. Definitions before the text take precedence
// over those at its end, so here the same link goes to a page.
/// The terms that the code and all pages use.
#[doc = ""]
#[doc = include_str!("../docs/glossary.md")]
pub mod glossary {}

/// How the table works.
#[doc = ""]
#[doc = "[benchmarks.md]: crate::docs::benchmarks"]
#[doc = "[concurrency.md]: crate::docs::concurrency"]
#[doc = "[decisions.md]: crate::docs::decisions"]
#[doc = "[files.md]: crate::docs::files"]
#[doc = "[glossary.md]: crate::docs::glossary"]
#[doc = "[image-format.md]: crate::docs::image_format"]
#[doc = "[manager.md]: crate::docs::manager"]
#[doc = "[memcg.md]: crate::docs::memcg"]
#[doc = "[memory.md]: crate::docs::memory"]
#[doc = ""]
#[doc = include_str!("../docs/design.md")]
pub mod design {}

/// How the tree of cgroups works.
#[doc = ""]
#[doc = "[concurrency.md]: crate::docs::concurrency"]
#[doc = "[decisions.md]: crate::docs::decisions"]
#[doc = "[design.md]: crate::docs::design"]
#[doc = "[glossary.md]: crate::docs::glossary"]
#[doc = ""]
#[doc = include_str!("../docs/memcg.md")]
pub mod memcg {}

/// How images and files of records work.
#[doc = ""]
#[doc = "[decisions.md]: crate::docs::decisions"]
#[doc = "[design.md]: crate::docs::design"]
#[doc = "[glossary.md]: crate::docs::glossary"]
#[doc = "[image-format.md]: crate::docs::image_format"]
#[doc = ""]
#[doc = include_str!("../docs/files.md")]
pub mod files {}

/// How memory is allocated and given back.
#[doc = ""]
#[doc = "[concurrency.md]: crate::docs::concurrency"]
#[doc = "[decisions.md]: crate::docs::decisions"]
#[doc = "[design.md]: crate::docs::design"]
#[doc = "[glossary.md]: crate::docs::glossary"]
#[doc = "[memory]: crate::docs::design#memory"]
#[doc = "[text-size.md]: crate::docs::text_size"]
#[doc = ""]
#[doc = include_str!("../docs/memory.md")]
pub mod memory {}

/// The alternatives that were measured or considered.
#[doc = ""]
#[doc = "[benchmarks.md]: crate::docs::benchmarks"]
#[doc = "[concurrency.md]: crate::docs::concurrency"]
#[doc = "[design.md]: crate::docs::design"]
#[doc = "[glossary.md]: crate::docs::glossary"]
#[doc = "[memcg.md]: crate::docs::memcg"]
#[doc = ""]
#[doc = include_str!("../docs/decisions.md")]
pub mod decisions {}

/// Threads, memory ordering, and what proves it.
#[doc = ""]
#[doc = "[design.md]: crate::docs::design"]
#[doc = "[glossary.md]: crate::docs::glossary"]
#[doc = "[memcg.md]: crate::docs::memcg"]
#[doc = "[order]: crate::docs::memcg#order-of-locks-and-waiting"]
#[doc = "[swap-in]: crate::docs::memcg#swap-in-and-limits-of-swap"]
#[doc = "[testing.md]: crate::docs::testing"]
#[doc = ""]
#[doc = include_str!("../docs/concurrency.md")]
pub mod concurrency {}

/// Limits of the table, and what to know before you rely on them.
#[doc = ""]
#[doc = "[design.md]: crate::docs::design"]
#[doc = ""]
#[doc = include_str!("../docs/limits.md")]
pub mod limits {}

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
#[doc = "[few]: crate::docs::decisions#two-to-forty-records-per-region"]
#[doc = "[design.md]: crate::docs::design"]
#[doc = "[locks]: crate::docs::design#locks"]
#[doc = ""]
#[doc = include_str!("../docs/benchmarks.md")]
// In the repository, a picture is a file in the same directory. Here it is part of the page.
#[doc = "\n<style>img[src$='.svg'] { display: none }</style>\n\n## Plots"]
#[doc = "\n<div>\n"]
#[doc = include_str!("../docs/bench-migration.svg")]
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
#[doc = ""]
#[doc = include_str!("../docs/text-size.md")]
pub mod text_size {}

/// What is checked, and by which test.
#[doc = ""]
#[doc = "[concurrency.md]: crate::docs::concurrency"]
#[doc = "[fuzzing.md]: crate::docs::fuzzing"]
#[doc = ""]
#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

/// The fuzz targets, and how a crash becomes a test.
#[doc = ""]
#[doc = "[concurrency.md]: crate::docs::concurrency"]
#[doc = ""]
#[doc = include_str!("../docs/fuzzing.md")]
pub mod fuzzing {}

/// What changed from version to version.
#[doc = ""]
#[doc = "[docs/benchmarks.md]: crate::docs::benchmarks"]
#[doc = "[docs/fuzzing.md]: crate::docs::fuzzing"]
#[doc = "[docs/image-format.md]: crate::docs::image_format"]
#[doc = "[docs/testing.md]: crate::docs::testing"]
#[doc = ""]
#[doc = include_str!("../CHANGELOG.md")]
pub mod changelog {}
