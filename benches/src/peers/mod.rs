//! What the table is measured against, beside the reference tables of `swap_records_sim`: other ways to keep the same
//! records, which need crates of their own or are no table at all.

pub mod bare_steps;
pub mod dash;
pub mod iterator_loop;
pub mod roaring_sets;
