#!/usr/bin/env bash
# Compares the public interface, with all features, with docs/public-api.txt, so that no change is made by
# accident. Prints the lines that were removed (-) and added (+), and how to accept them.
#
#   --bless   writes the interface as it is now to docs/public-api.txt; commit it with the change
#
# Needs the nightly toolchain, for rustdoc's JSON, and cargo-public-api in the version below, which reads the
# JSON of nightlies of about the same age. Installs both if they are missing (two to four minutes, once).
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.52.0
listing=docs/public-api.txt

case ${1:-} in
'' | --bless) ;;
*) echo "usage: ci/public_api.sh [--bless]" >&2 && exit 2 ;;
esac

rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
if [ "$(cargo public-api --version 2>/dev/null || true)" != "cargo-public-api $version" ]; then
    cargo install --locked "cargo-public-api@$version"
fi

# The list is sorted, since the block that a method is in is not part of the interface. Derived
# implementations, Send and Sync are part of it. Blanket implementations belong to other crates. Freeze and
# UnsafeUnpin are internal to the compiler.
now=$(mktemp)
trap 'rm -f "$now"' EXIT
cargo +nightly public-api --package swap-records --all-features --omit blanket-impls --color=never |
    grep -Ev '^impl.* !?core::marker::(Freeze|UnsafeUnpin) for |swap_records::docs' | sort -u >"$now"
[ -s "$now" ] || { echo "public_api: FAIL: the list is empty"; exit 1; }

if [ "${1:-}" = --bless ]; then
    cat "$now" >"$listing"
    echo "public_api: $(wc -l <"$listing") lines in $listing"
elif ! diff -U0 --label "$listing" --label 'the code' "$listing" "$now"; then
    echo "public_api: FAIL: the interface differs from $listing. To accept the change: ci/public_api.sh --bless"
    exit 1
fi
