#!/usr/bin/env bash
# Runs ThreadSanitizer on all tests with threads. It fails if two accesses are not ordered and not both
# atomic. The standard library is built with it (-Zbuild-std), so it sees all of locks, channels and scopes,
# and no report is suppressed. It cannot see assembly. So vectors are stored lane by lane here
# (`--cfg store_lanes`), which is what the assembly stands for.
#
#   SWAP_RECORDS_STRESS=N   the stress tests, N times as long
#
# Needs the nightly toolchain and its sources, and installs them if they are missing. Passes its arguments to
# `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
rustup component add rust-src --toolchain nightly

target=$(rustc -vV | sed -n 's/^host: //p')
tests=(-p swap-records -p swap-records-oracle --lib --test stress --test threads --test linearizable --test memcg_race --test memcg_stress)
if [ $# -gt 0 ]; then tests=("$@"); fi
# A target directory of its own, since these flags apply to everything that is built.
RUSTFLAGS="${RUSTFLAGS:-} -Zsanitizer=thread --cfg store_lanes" \
    TSAN_OPTIONS="halt_on_error=1 ${TSAN_OPTIONS:-}" SWAP_RECORDS_FEW_CASES=1 \
    cargo +nightly test -Zbuild-std --target "$target" --target-dir target/tsan "${tests[@]}"
