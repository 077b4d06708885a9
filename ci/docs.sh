#!/usr/bin/env bash
# The documentation builds without a warning: no broken link, nothing undocumented. The pages of docs/ are in it, and no
# link of theirs goes to a file that is not. Built as docs.rs builds it (nightly, all features) as well.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTDOCFLAGS='-D warnings'
cargo doc --no-deps -p swap-records -p swap-records-sim -p swapmap
if grep -noE 'href="[^":]*\.md[^"]*"' target/doc/swap_records/docs/*/index.html; then
    echo "docs: a link goes to a file: give it a definition in src/docs.rs"
    exit 1
fi
cargo doc --no-deps -p swap-records --no-default-features

# A file that a document names is there: from the root, or from src.
missing=0
while IFS=: read -r file path; do
    [ -e "$path" ] || [ -e "src/$path" ] || [ -e "tests/$path" ] || { echo "docs: $file names $path, which is not there"; missing=1; }
done < <(grep -oE '`[a-z_0-9/.]+/[a-z_0-9]+\.(rs|sh|md)`' README.md CHANGELOG.md docs/*.md sim/README.md swapmap/README.md | tr -d '`')
[ "$missing" -eq 0 ]

[[ $'\n'$(rustup toolchain list) == *$'\n'nightly* ]] || rustup toolchain install nightly --profile minimal
RUSTDOCFLAGS="$RUSTDOCFLAGS --cfg docsrs" cargo +nightly doc --no-deps -p swap-records --features std,simd,serde \
    --target-dir target/docsrs
# A badge says which feature an item needs.
grep -q 'crate feature `std` only' target/docsrs/doc/swap_records/lock/index.html ||
    { echo "docs: what needs the feature std has no badge"; exit 1; }
