#!/usr/bin/env bash
# ThreadSanitizer over all tests with threads: two accesses that no order of the program separates, and that are
# not both atomic, are a failure. The standard library is built with it (-Zbuild-std), so nothing of a
# lock, a channel or a scope is unseen, and nothing is suppressed. Assembly it cannot see: vectors are
# stored lane by lane here (`--cfg store_lanes`), which is what the assembly stands for.
#
#   SWAP_RECORDS_STRESS=N   the stress tests, N times as long
#
# Needs the nightly toolchain, and gets it and its sources where they are missing. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
rustup component add rust-src --toolchain nightly

target=$(rustc -vV | sed -n 's/^host: //p')
tests=(-p swap-records -p swap-records-oracle --lib --test stress --test threads --test linearizable --test memcg_race --test memcg_stress)
if [ $# -gt 0 ]; then tests=("$@"); fi
# A folder of its own: these flags are for everything that is built.
RUSTFLAGS="${RUSTFLAGS:-} -Zsanitizer=thread --cfg store_lanes" \
    TSAN_OPTIONS="halt_on_error=1 ${TSAN_OPTIONS:-}" SWAP_RECORDS_FEW_CASES=1 \
    cargo +nightly test -Zbuild-std --target "$target" --target-dir target/tsan "${tests[@]}"
