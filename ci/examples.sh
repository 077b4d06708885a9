#!/usr/bin/env bash
# Runs the examples, which check their own results.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo run --release --example reparent -- --gib 0.0625
cargo run --release --example restart
# A header, and a line for each of 5 families, 3 sizes and 4 numbers of records.
cargo run --release --example sweep | awk -F, 'NF != 7 { wrong = 1 } END { exit wrong || NR != 61 }'

# The last line is the summary; a plot is a plot, and so are those of the documents.
plots=$(mktemp -d)
trap 'rm -rf "$plots"' EXIT
cargo run --release --example css_free -- --seconds 4 --svg "$plots/css-free.svg" | tee >(cat >&2) | tail -n 1 |
    grep -q 'everything balanced: no charge and no record is left, 1 id is in use.$'
ci/svg.sh "$plots/css-free.svg" docs/*.svg

# The plots of the benchmarks are those of the tables on the same page.
rm "$plots/css-free.svg"
cargo test -p swap-records-benches --bench headline -- --svg-from ../docs/benchmarks.md --svg "$plots"
mkdir "$plots/now"
cp docs/bench-*.svg "$plots/now"
diff -q --exclude=now "$plots" "$plots/now" || {
    echo 'draw them again: cargo bench --bench headline -- --svg-from ../docs/benchmarks.md --svg ../docs'
    exit 1
}

# Without swap, `swapmap live` says so and must end with status 3.
status=0
cargo run --release -p swapmap -- live || status=$?
if [ "$status" -ne 0 ] && { [ "$status" -ne 3 ] || [ "$(wc -l </proc/swaps)" -gt 1 ]; }; then
    echo "swapmap live ended with $status"
    exit 1
fi
