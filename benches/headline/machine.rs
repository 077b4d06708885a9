//! Describes the machine.

use procfs::{CpuInfo, Current};
use swap_records::Backend;

/// Returns the lines above the figures.
pub(crate) fn describe(slots: u64, gib: f64) -> Vec<String> {
    let processor = CpuInfo::current()
        .ok()
        .and_then(|info| Some(info.model_name(0)?.to_owned()))
        .unwrap_or_else(|| "unknown".to_owned());
    let vectors: Vec<_> = [Backend::Wide, Backend::Avx2, Backend::Avx512]
        .into_iter()
        .filter(|backend| backend.is_available())
        .map(|backend| backend.to_string())
        .collect();
    let huge = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    vec![
        format!("processor: {processor}"),
        format!("cores: {}", swap_records_sim::threads()),
        format!(
            "backend: {} (available: {})",
            Backend::detect(),
            vectors.join(", ")
        ),
        format!("GiB: {gib} of table, {slots} slots"),
        format!("huge pages: {}", huge.as_deref().unwrap_or("none").trim()),
    ]
}

/// Returns the resident bytes of this process.
pub(crate) fn resident() -> Result<u64, String> {
    let statm = procfs::process::Process::myself().and_then(|me| me.statm());
    let statm = statm.map_err(|error| format!("/proc/self/statm: {error}"))?;
    Ok(statm.resident * procfs::page_size())
}
