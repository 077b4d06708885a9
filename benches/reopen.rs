//! `cargo bench --bench reopen`: measures how long it takes to turn a type on with the records of a file, on
//! one thread and on two, and to turn it off. The file is a `memfd` of 4 GiB, or of the size that
//! `SWAP_MAP_GIB` asks for.

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("tables in files need Linux");
}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use swap_records::file::RecordFile;
    use swap_records::{RawSpinLock, SwapRecords, SwapType};
    use swap_records_benches::{LIVE, REGION, SEED, index, timed};
    use swap_records_sim::{Family, Map, size, threads};

    /// The header of the file.
    const HEADER: u64 = 4096;
    // `cargo test --benches` only checks that it runs.
    let test = cfg!(debug_assertions) || std::env::args().any(|arg| arg == "--test");
    let slots = if test {
        64 * REGION as u64
    } else {
        let size = size::from_env(1)?;
        if let Some(note) = size.note {
            println!("note: {note}");
        }
        size.slots / REGION as u64 * REGION as u64
    };
    let ty = SwapType::new(0).ok_or("types are 0 to 31")?;
    for (name, family) in [
        ("interleaved", Family::Interleaved(LIVE)),
        ("jobs", Family::Jobs),
    ] {
        let memfd = RecordFile::memfd(slots)?;
        let file = File::from(memfd.as_fd().try_clone_to_owned()?);
        // The same map each time.
        let part = slots.min(1 << 24);
        let mut ids = vec![0; index(part)];
        Map::new(family, part, SEED).fill_slice(threads(), &mut ids, |_| ());
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_ne_bytes()).collect();
        let mut records = 0;
        for start in (0..slots).step_by(index(part)) {
            let ids = &ids[..index(part.min(slots - start))];
            records += ids.iter().filter(|&&id| id != 0).count() as u64;
            file.write_all_at(&bytes[..2 * ids.len()], HEADER + 2 * start)?;
        }
        println!(
            "{name}, {} GiB of table, {records} records",
            size::gib_of(slots)
        );
        for threads in [1, 2, 1, 2] {
            let table = SwapRecords::<RawSpinLock>::new();
            let swapon = || table.swapon_file(ty, slots, &memfd).threads(threads).run();
            let (found, time) = timed(swapon);
            assert_eq!(found?.records, records);
            println!(
                "  swapon_file, {threads} threads {:9.1} ms, {:.2} ns per slot",
                time.as_secs_f64() * 1e3,
                time.as_secs_f64() * 1e9 / slots as f64,
            );
        }
        let table = SwapRecords::<RawSpinLock>::new();
        let found = table
            .swapon_file(ty, slots, &memfd)
            .threads(threads())
            .run()?;
        let (dropped, time) = timed(|| table.swapoff(ty));
        assert_eq!(dropped?, found.records);
        println!(
            "  swapoff                {:9.1} ms",
            time.as_secs_f64() * 1e3
        );
    }
    Ok(())
}
