#!/usr/bin/env bash
# Compares the table with the kernel's own numbers, on a swapfile and cgroups that the test makes. The test
# does that only if SWAP_RECORDS_LIVE is set. Here, a machine that cannot run the test fails, instead of being
# counted as skipped. Needs root and a memory controller.
set -euo pipefail
cd "$(dirname "$0")/.."

export SWAP_RECORDS_LIVE=1 SWAP_RECORDS_REQUIRE_LIVE=1
cargo test -p swapmap --test live_kernel
