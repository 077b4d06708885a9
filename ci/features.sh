#!/usr/bin/env bash
# Compiles the library with every set of its features, and accepts no warning. Needs cargo-hack, and installs
# it if it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.6.46
[ "$(cargo hack --version 2>/dev/null || true)" = "cargo-hack $version" ] ||
    cargo install --locked --debug --config profile.dev.debug=0 "cargo-hack@$version"
rustup component add clippy

# Builds a copy of the library without the workspace. In the workspace, other members enable features of the
# library, and cargo enables these as well.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cargo package --quiet --package swap-records --allow-dirty --no-verify --target-dir "$tmp/target" 2>/dev/null
tar -xzf "$tmp"/target/package/swap-records-*.crate -C "$tmp"
cd "$tmp"/swap-records-*/
export CARGO_TARGET_DIR=$tmp/target

# `default` is a set of the other features. `loom` is for models, and also needs a --cfg: ci/loom.sh.
sets() { cargo hack clippy --lib --feature-powerset --exclude-features default,loom "$@" -- -D warnings; }
sets
# The check finds a fault that only one set has.
cat >>src/lib.rs <<'RUST'
#[cfg(all(feature = "std", not(feature = "simd")))]
const UNUSED: () = ();
RUST
if sets >"$tmp/seeded" 2>&1; then
    echo 'features: FAIL: a warning with `std` and without `simd` was not found' >&2
    exit 1
fi
grep -q UNUSED "$tmp/seeded" || { cat "$tmp/seeded"; exit 1; }
unset CARGO_TARGET_DIR
cd - >/dev/null

# `cargo test` does not test these sets.
cargo test -p swap-records-oracle --features serde --test serde
cargo test -p swap-records -p swap-records-oracle --no-default-features --features std,swap-records-oracle/std --lib \
    --test against_oracle --test operations
