#!/usr/bin/env bash
# Checks formatting and lints, for each set of features and for a target with other vectors.
set -euo pipefail
cd "$(dirname "$0")/.."
rustup component add rustfmt clippy
rustup target add aarch64-unknown-linux-gnu

cargo fmt --all --check
cargo clippy --all-targets -- -D warnings
cargo clippy -p swap-records-oracle --features serde --all-targets -- -D warnings
cargo clippy -p swap-records --no-default-features --lib -- -D warnings
RUSTFLAGS='-C target-cpu=x86-64-v4' cargo clippy -p swap-records --no-default-features --features simd --lib --target-dir target/v4 -- -D warnings
cargo clippy -p swap-records --lib --target aarch64-unknown-linux-gnu -- -D warnings
