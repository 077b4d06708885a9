#!/usr/bin/env bash
# Builds the documentation and accepts no warning, so no link is broken and nothing is undocumented. The pages
# of docs/ are part of it, and their links go to pages, not to files. Builds it also as docs.rs does (nightly,
# all features).
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTDOCFLAGS='-D warnings'
cargo doc --no-deps -p swap-records -p swap-records-sim -p swapmap
if grep -noE 'href="[^":]*\.md[^"]*"' target/doc/swap_records/docs/*/index.html; then
    echo "docs: FAIL: a link goes to a file. Give the link a definition in src/docs.rs."
    exit 1
fi
cargo doc --no-deps -p swap-records --no-default-features

# Each file that a document names exists, relative to the root, src or tests.
missing=0
while IFS=: read -r file path; do
    [ -e "$path" ] || [ -e "src/$path" ] || [ -e "tests/$path" ] || { echo "docs: FAIL: $file names $path, which does not exist"; missing=1; }
done < <(grep -oE '`[a-z_0-9/.]+/[a-z_0-9]+\.(rs|sh|md)`' README.md CHANGELOG.md docs/*.md sim/README.md swapmap/README.md | tr -d '`')
[ "$missing" -eq 0 ]

[[ $'\n'$(rustup toolchain list) == *$'\n'nightly* ]] || rustup toolchain install nightly --profile minimal
RUSTDOCFLAGS="$RUSTDOCFLAGS --cfg docsrs" cargo +nightly doc --no-deps -p swap-records --features std,simd,serde \
    --target-dir target/docsrs
# A badge names the feature that an item needs.
grep -q 'crate feature `std` only' target/docsrs/doc/swap_records/lock/index.html ||
    { echo "docs: FAIL: items that need the feature std have no badge"; exit 1; }
