#!/usr/bin/env bash
# Builds the library with the oldest versions of its dependencies that Cargo.toml allows. Builds the packaged
# library in a directory of its own, so that the Cargo.lock here does not change, and without
# dev-dependencies, which a dependent does not have. Needs the nightly toolchain to choose the versions, and
# installs it if it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

[[ $'\n'$(rustup toolchain list) == *$'\n'nightly* ]] || rustup toolchain install nightly --profile minimal

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# The package has the values that the workspace shares, and does not have its other members.
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
