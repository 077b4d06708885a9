#!/usr/bin/env bash
# The library compiles without a warning with every set of its features. Needs cargo-hack, and gets it where it is
# missing.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo hack --version 2>/dev/null || cargo install --locked --debug --config profile.dev.debug=0 cargo-hack@0.6.46
rustup component add clippy

# `default` is a set of the others. `loom` is for models, and needs --cfg loom as well: ci/loom.sh.
cargo hack clippy --locked --package swap-records --lib --feature-powerset --exclude-features default,loom -- -D warnings

# `cargo test` leaves the feature out.
cargo test -p swap-records-oracle --features serde --test serde
