//! The rows of the headline and their bars, which hold for 4 GiB of table, two cores and AVX-512.

/// The requirement of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// No requirement: the row shows how this machine does the work of the row before it without the crate.
    Limit,
}

impl Bar {
    /// Returns whether the bar is met, or `None` if there is none.
    pub(crate) fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(bar) => Some(value >= bar),
            Self::AtMost(bar) => Some(value <= bar),
            Self::Limit => None,
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Self::AtLeast(bar) => format!(">= {bar}"),
            Self::AtMost(bar) => format!("<= {bar}"),
            Self::Limit => "limit".to_owned(),
        };
        f.pad(&text)
    }
}

use Bar::{AtLeast, AtMost, Limit};

/// The name and bar of every row, in the order of the output.
pub(crate) const BARS: [(&str, Bar); 49] = [
    ("full_scan_vs_read_bandwidth", AtLeast(0.9)),
    ("full_scan_l2_vs_vectorized_loop", AtLeast(0.8)),
    ("full_scan_vs_2014_loop", AtLeast(3.5)),
    ("dense_vs_fill", AtLeast(1.0)),
    ("no_records_vs_2014_loop", AtLeast(50_000.0)),
    ("no_records_4000_ids_vs_2014_loop", AtLeast(50_000.0)),
    ("records_1000_vs_2014_loop", AtLeast(3_000.0)),
    ("records_10000_vs_2014_loop", AtLeast(200.0)),
    ("records_100000_vs_2014_loop", AtLeast(13.0)),
    ("records_100000_2_threads_vs_2014_loop", AtLeast(22.0)),
    ("records_1000_vs_full_scan", AtLeast(1_000.0)),
    ("records_1000_vs_roaring", AtLeast(0.5)),
    ("owners_vs_walk", AtLeast(100.0)),
    ("record_seq_vs_linux_2024", AtMost(1.1)),
    ("record_seq_vs_bare_steps", Limit),
    ("bare_steps_seq_vs_linux_2024", Limit),
    ("record_hot_vs_linux_2024", AtMost(1.5)),
    ("record_hot_vs_bare_steps", AtMost(1.15)),
    ("bare_steps_hot_vs_linux_2024", Limit),
    ("record_dram_vs_linux_2024", AtMost(2.5)),
    ("record_dram_vs_bare_steps", AtMost(1.15)),
    ("bare_steps_dram_vs_linux_2024", Limit),
    ("clear_batch_dram_vs_linux_2024", AtMost(1.1)),
    ("clear_batch_dram_vs_prefetched", Limit),
    ("record_batch_dram_vs_linux_2024", AtMost(1.5)),
    ("record_batch_dram_vs_prefetched", Limit),
    ("clear_batch_clustered_vs_linux_2024", AtMost(1.0)),
    ("clear_batch_clustered_vs_prefetched", Limit),
    ("cmpxchg_hot_vs_linux_2024", AtMost(1.5)),
    ("record_range64_vs_linux_2024", AtMost(0.15)),
    ("lookup_hot_vs_raw_load", AtMost(1.5)),
    ("record_2_threads_scaling", AtLeast(1.8)),
    ("two_tables_2_threads_scaling", Limit),
    ("record_2_threads_vs_two_tables", AtLeast(0.95)),
    ("record_8_on_2_cores", AtLeast(0.8)),
    ("migrate_2_threads_scaling", AtLeast(1.8)),
    ("read_2_threads_scaling", Limit),
    ("record_p9999_during_migrate_vs_2014_loop", AtLeast(100.0)),
    // In microseconds.
    ("css_free_no_records", AtMost(20.0)),
    ("css_free_1000_vs_2014_loop", AtLeast(3_000.0)),
    ("charge_uncharge_2_threads_scaling", AtLeast(1.6)),
    ("image_write_vs_copy", AtLeast(0.6)),
    ("image_read_vs_copy", AtLeast(0.15)),
    ("image_read_2_threads_scaling", AtLeast(1.8)),
    ("image_read_vs_record_range", AtLeast(3.0)),
    ("image_scan_vs_read", AtLeast(0.9)),
    ("index_bytes_vs_table_bytes", AtMost(0.02)),
    ("index_bytes_vs_table_bytes_1000_ids", AtMost(0.08)),
    ("resident_bytes_after_swapon", AtMost(4_194_304.0)),
];
