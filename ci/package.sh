#!/usr/bin/env bash
# Tests the library as its users get it. Packages it, unpacks it in an empty directory, and makes a crate of
# README's examples that depends on it. The examples run. Without default features, they compile. The number
# of packages that a crate locks because of the library has a limit.
set -euo pipefail
cd "$(dirname "$0")/.."

# This includes the crate itself, the library, and all that the library may need on any target.
most_packages=20

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

cargo package --package swap-records --allow-dirty --no-verify --target-dir "$tmp/target"
tar -xzf "$tmp"/target/package/swap-records-*.crate -C "$tmp"
mv "$tmp"/swap-records-*/ "$tmp/library"

# `cargo publish` has nothing to warn of, but for the address of the repository, which is not known yet.
said=$(cargo publish --dry-run --no-verify --package swap-records --allow-dirty --target-dir "$tmp/target" 2>&1) ||
    { printf 'package: FAIL: cargo publish: %s\n' "$said" >&2; exit 1; }
warnings=$(grep '^warning' <<<"$said" |
    grep -vE 'no documentation, homepage or repository$|aborting upload due to dry run$' || true)
[ -z "$warnings" ] || { printf 'package: FAIL: cargo publish warns:\n%s\n' "$warnings" >&2; exit 1; }

# The synthetic maps are published as well, with their licences.
cargo package --quiet --package swap-records-sim --allow-dirty --target-dir "$tmp/target"
[[ $(tar -tzf "$tmp"/target/package/swap-records-sim-*.crate) == *LICENSE-MIT* ]] ||
    { echo 'package: FAIL: the package swap-records-sim lacks a licence file' >&2; exit 1; }

# Makes a program of each ```rust block with a `main`.
mkdir -p "$tmp/user/src/bin"
awk -v folder="$tmp/user/src/bin" '
    /^```/ && inside {
        if (text ~ /fn main\(/) printf "%s", text >(folder "/example_" ++programs ".rs")
        inside = 0
        next
    }
    /^```/ { inside = 1; rust = /^```rust$/; text = "" ; next }
    inside && rust { text = text $0 "\n" }
' "$tmp/library/README.md"
examples=("$tmp"/user/src/bin/*.rs)
[ -e "${examples[0]}" ] || { echo 'package: FAIL: README does not have a ```rust block with a main' >&2; exit 1; }

# The dependency on the library, with further keys.
manifest() {
    cat >"$tmp/user/Cargo.toml" <<TOML
[package]
name = "user"
version = "0.0.0"
edition = "2024"

[dependencies]
swap-records = { path = "../library"$1 }
TOML
}
export CARGO_TARGET_DIR=$tmp/target

manifest ''
cd "$tmp/user"
cargo build
for example in "${examples[@]}"; do
    name=$(basename "$example" .rs)
    cargo run --quiet --bin "$name"
    echo "package: README's $name ran"
done
mapfile -t packages < <(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.lock)

manifest ', default-features = false'
cargo check
echo "package: ${#examples[@]} examples of README ran; they compile without default features"

echo "package: a crate that depends on the library alone locks ${#packages[@]} packages (at most $most_packages)"
if [ "${#packages[@]}" -gt "$most_packages" ]; then
    echo "package: FAIL: too many packages: ${packages[*]}" >&2
    exit 1
fi
