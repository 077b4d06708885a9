//! Runs a model.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Runs `model` in every order, with at most `LOOM_MAX_PREEMPTIONS` preemptions, or `most` if that is not set
/// (`None`: any number). Prints the number of orders.
pub(crate) fn explore(name: &str, most: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(most);
    builder.max_branches = builder.max_branches.max(20_000);
    let start = Instant::now();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let orders = orders.load(Ordering::Relaxed);
    let bound = match builder.preemption_bound {
        Some(most) => format!("at most {most} preemptions"),
        None => String::from("any preemptions"),
    };
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{name}: {orders} orders, {bound}, {seconds:.1} s");
    assert!(orders > 1, "threads that never meet prove nothing");
}
