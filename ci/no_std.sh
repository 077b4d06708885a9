#!/usr/bin/env bash
# Without std: `core` and `alloc` only, on a target that has no std to lean on by accident; and the
# tests of the table on heap storage, on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
rustup target add x86_64-unknown-none

cargo build --no-default-features --target x86_64-unknown-none
cargo test --no-default-features --lib \
    --test against_oracle --test cmpxchg --test linearizable --test migration --test operations --test threads --test values \
    --test memcg --test memcg_race --test memcg_stress
