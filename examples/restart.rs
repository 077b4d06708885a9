//! Keeps the records of a daemon over a restart. The daemon records until it is killed, and the next one
//! continues with those records.
//!
//! `cargo run --example restart` starts the daemon three times, and kills it each time after 200 ms. Each
//! daemon gets the same `memfd` as standard input. A service manager would keep it in its descriptor store.
//! At the end, the records of one cgroup are migrated, and the swapfile is turned off.

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("tables in files need Linux");
}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};
    use std::thread::sleep;
    use std::time::Duration;
    use std::{env, io};

    use swap_records::file::RecordFile;
    use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};

    const PAGES: u64 = 1 << 20;
    let ty = SwapType::new(0).ok_or("types are 0 to 31")?;
    let turn_on = |file: &RecordFile| {
        let records = SwapRecords::new();
        let found = records
            .swapon_file(ty, PAGES, file)
            .threads(2)
            .run()?
            .records;
        Ok::<_, Box<dyn std::error::Error>>((records, found))
    };
    if env::args().nth(1).as_deref() == Some("daemon") {
        let file = RecordFile::from_memfd(io::stdin().as_fd().try_clone_to_owned()?)?;
        let (records, found) = turn_on(&file)?;
        println!("  process {}: found {found} records", std::process::id());
        let mut random = fastrand::Rng::new();
        loop {
            let slot = SwapEntry::new(ty, random.u64(..PAGES)).ok_or("below 2^50")?;
            let id = MemcgId::new(random.u16(1..100)).ok_or("not 0")?;
            records.record(slot, id)?;
        }
    }

    let file = RecordFile::memfd(PAGES)?;
    let mut before = 0;
    for _ in 0..3 {
        let mut daemon = Command::new(env::current_exe()?)
            .arg("daemon")
            .stdin(Stdio::from(file.as_fd().try_clone_to_owned()?))
            .spawn()?;
        sleep(Duration::from_millis(200));
        daemon.kill()?;
        daemon.wait()?;
        // Turning the type on does not remove any record.
        let (_, found) = turn_on(&file)?;
        assert!(found >= before);
        println!("killed: {found} records");
        before = found;
    }
    assert!(before > 0, "nothing was recorded");

    let (records, found) = turn_on(&file)?;
    let (ended, parent) = (MemcgId::try_from(7)?, MemcgId::MIN);
    let owned = records.count(ended);
    assert_eq!(records.migrate(ended, parent), owned);
    println!("migrated {owned} records");
    // A swapoff empties the file.
    assert_eq!(records.swapoff(ty)?, found);
    assert_eq!(turn_on(&file)?.1, 0);
    Ok(())
}
