#!/usr/bin/env bash
# Without std: `core` and `alloc` only, on a target that has no std to lean on by accident; and the
# tests of the library, on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
rustup target add x86_64-unknown-none

cargo check --no-default-features --target x86_64-unknown-none
cargo test --no-default-features --lib
