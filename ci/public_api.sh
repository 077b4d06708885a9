#!/usr/bin/env bash
# The public interface, with all features, is the one in docs/public-api.txt: no change of it is an accident.
# Prints the lines that are gone (-) and those that came (+), and how to accept them.
#
#   --bless   writes the interface as it is now to docs/public-api.txt; commit it with the change
#
# Needs the nightly toolchain, for rustdoc's JSON, and cargo-public-api in the version below, which reads that
# of nightlies around its own day. Gets both where they are missing (two to four minutes, once).
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

# Sorted: in which block a method stands is no promise. What the compiler derives, and Send and Sync, are. Blanket implementations are others';
# Freeze and UnsafeUnpin are the compiler's own.
now=$(mktemp)
trap 'rm -f "$now"' EXIT
cargo +nightly public-api --package swap-records --all-features --omit blanket-impls --color=never |
    grep -Ev '^impl.* !?core::marker::(Freeze|UnsafeUnpin) for |swap_records::docs' | sort -u >"$now"
[ -s "$now" ] || { echo "public_api: nothing was listed"; exit 1; }

if [ "${1:-}" = --bless ]; then
    cat "$now" >"$listing"
    echo "public_api: $(wc -l <"$listing") lines in $listing"
elif ! diff -U0 --label "$listing" --label 'the code' "$listing" "$now"; then
    echo "public_api: the interface is not the one in $listing. If that is meant: ci/public_api.sh --bless"
    exit 1
fi
