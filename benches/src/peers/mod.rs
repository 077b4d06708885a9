//! Tables to measure against, in addition to the reference tables of `swap_records_sim`. They need further
//! crates, or are not complete tables.

pub mod bare_steps;
pub mod dash;
pub mod iterator_loop;
pub mod roaring_sets;
