#!/usr/bin/env bash
# The table beside the kernel's own figures, on a swapfile and cgroups made for it. The test does that only where it
# is asked to (SWAP_RECORDS_LIVE). Here a machine that cannot run it fails, instead of being counted as skipped.
# Needs root and a memory controller.
set -euo pipefail
cd "$(dirname "$0")/.."

export SWAP_RECORDS_LIVE=1 SWAP_RECORDS_REQUIRE_LIVE=1
cargo test -p swapmap --test live_kernel
