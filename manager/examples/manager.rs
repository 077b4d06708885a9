//! Guests under a memory manager that keeps its books with this crate.
//!
//! `cargo run --release --example manager -- --guests 8 --memory 64M --guest-size 32M --seconds 20`

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    swap_records_manager::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("userfaultfd needs Linux");
}
