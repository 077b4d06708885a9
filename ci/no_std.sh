#!/usr/bin/env bash
# Without std: `core` and `alloc` only, on a target that has no std to lean on by accident; and the
# tests of the table on heap storage, on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
rustup target add x86_64-unknown-none

cargo build -p swap-records --no-default-features --target x86_64-unknown-none
cargo test -p swap-records -p swap-records-oracle --no-default-features --lib \
    --test against_oracle --test cmpxchg --test linearizable --test migration --test operations --test threads --test values \
    --test glob --test iterators --test texts --test owners --test footprint \
    --test memcg --test memcg_race --test memcg_stress --test memcg_locks --test memcg_long --test memcg_offline \
    --test memcg_stale --test memcg_unwinds \
    --test locked --test refused --test unwinds

# Where atomics of 64 bits are missing, one sentence says so, and no other error does.
rustup target add thumbv7em-none-eabihf
refused=$(cargo check -p swap-records --no-default-features --target thumbv7em-none-eabihf 2>&1) && { echo "it builds without them"; exit 1; }
if [ "$(grep '^error' <<<"$refused" | grep -cv 'could not compile')" -ne 1 ] ||
    ! grep -q '^error: swap-records needs atomics of 64 bits' <<<"$refused"; then
    echo "$refused"
    exit 1
fi
