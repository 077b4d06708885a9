#!/usr/bin/env bash
# The inventory in docs/concurrency.md names every file of src that has `unsafe` in it, with as many blocks, impls and
# functions as there are.
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
        echo "docs/concurrency.md lacks a row that begins with: $row"
        failed=1
    fi
done < <(git ls-files 'src/*.rs')
# And nothing that is gone.
while read -r file; do
    [ -e "$file" ] && grep -q unsafe "$file" || { echo "docs/concurrency.md names $file"; failed=1; }
done < <(sed -n 's/^| `\(src\/[^`]*\)` | [0-9].*/\1/p' docs/concurrency.md)
exit "$failed"
