#!/usr/bin/env bash
# The library builds with the oldest versions of its dependencies that Cargo.toml allows. That is tried on the library
# as it is packaged, in a folder of its own, so that the Cargo.lock here is left alone; without its dev-dependencies,
# which no dependent has. Needs the nightly toolchain for the choice of versions, and gets it where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

[[ $'\n'$(rustup toolchain list) == *$'\n'nightly* ]] || rustup toolchain install nightly --profile minimal

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Packaging resolves what the workspace shares, and leaves its other members out.
cargo package --quiet --package swap-records --allow-dirty --no-verify --target-dir "$tmp/target"
tar -xzf "$tmp"/target/package/swap-records-*.crate -C "$tmp"
cd "$tmp"/swap-records-*/
awk '/^\[/ { dev = /dev-dependencies/ } !dev' Cargo.toml >"$tmp/Cargo.toml"
mv "$tmp/Cargo.toml" Cargo.toml
rm -f Cargo.lock

cargo +nightly generate-lockfile -Zdirect-minimal-versions
cargo tree --locked --depth 1 --all-features --edges normal
export CARGO_TARGET_DIR=$tmp/target
for features in --no-default-features '' --all-features; do
    echo "== cargo build --lib $features"
    # shellcheck disable=SC2086 # one word or none
    cargo build --locked --lib $features
done
