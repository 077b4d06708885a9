#!/usr/bin/env bash
# Checks the inventory in docs/concurrency.md. It must name every file of src that contains `unsafe`, with the
# right numbers of blocks, impls and functions.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
while read -r file; do
    code=$(grep -vE '^\s*//' "$file" || true)
    count() { { grep -oE "$1" <<<"$code" || true; } | wc -l; }
    blocks=$(count 'unsafe \{') impls=$(count 'unsafe impl') functions=$(count 'unsafe fn')
    [ $((blocks + impls + functions)) -gt 0 ] || continue
    row="| \`$file\` | $blocks | $impls | $functions | "
    if ! grep -qF "$row" docs/concurrency.md; then
        echo "unsafe: FAIL: docs/concurrency.md lacks a row that begins with: $row"
        failed=1
    fi
done < <(git ls-files 'src/*.rs')
# The inventory names no other file.
while read -r file; do
    [ -e "$file" ] && grep -q unsafe "$file" || { echo "unsafe: FAIL: docs/concurrency.md names $file, which has no unsafe code"; failed=1; }
done < <(sed -n 's/^| `\(src\/[^`]*\)` | [0-9].*/\1/p' docs/concurrency.md)
exit "$failed"
