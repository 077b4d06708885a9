#!/usr/bin/env bash
# Runs AddressSanitizer on the tests that access memory without a checked index: the scan kernels with their
# assembly, areas that are turned off and used again under load, and memory that a tree of cgroups frees.
#
#   SWAP_RECORDS_STRESS=N   the stress tests, N times as long
#
# Needs the nightly toolchain, and installs it if it is missing. Passes its arguments to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal

target=$(rustc -vV | sed -n 's/^host: //p')
tests=(-p swap-records --lib --test stress --test threads --test operations --test migration --test memcg_race --test image)
if [ $# -gt 0 ]; then tests=("$@"); fi
# A target directory of its own, since these flags apply to everything that is built.
RUSTFLAGS="${RUSTFLAGS:-} -Zsanitizer=address" SWAP_RECORDS_FEW_CASES=1 \
    cargo +nightly test --target "$target" --target-dir target/asan "${tests[@]}"
