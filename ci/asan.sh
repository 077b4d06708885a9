#!/usr/bin/env bash
# AddressSanitizer over the tests that reach memory by other ways than a checked index: the scan kernels with their
# assembly, areas that are turned off and used again under load, and what a tree of cgroups frees.
#
#   SWAP_RECORDS_STRESS=N   the stress tests, N times as long
#
# Needs the nightly toolchain, and gets it where it is missing. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal

target=$(rustc -vV | sed -n 's/^host: //p')
tests=(-p swap-records --lib --test stress --test threads --test operations --test migration --test memcg_race --test image)
if [ $# -gt 0 ]; then tests=("$@"); fi
# A folder of its own: these flags are for everything that is built.
RUSTFLAGS="${RUSTFLAGS:-} -Zsanitizer=address" SWAP_RECORDS_FEW_CASES=1 \
    cargo +nightly test --target "$target" --target-dir target/asan "${tests[@]}"
