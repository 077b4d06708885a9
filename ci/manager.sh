#!/usr/bin/env bash
# Runs guests under a memory manager over userfaultfd. Some guests are killed, and the manager is killed. No
# byte, slot or charge may be lost. `cargo test` runs the test, too. Here, a machine that cannot run it fails,
# instead of being counted as skipped. Also runs the command that README names. Needs root and Linux 5.19.
#
#   MANAGER_RUNS=10 MANAGER_SECONDS=60   the long form (1 run of 10 seconds)
set -euo pipefail
cd "$(dirname "$0")/.."

SWAP_RECORDS_REQUIRE_MANAGER=1 cargo test -p swap-records-manager --test guests

# From the root, as in README. The last line of each run is the summary.
out=$(mktemp)
trap 'rm -f "$out"' EXIT
cargo run --release --example manager -- --guests 8 --memory 64M --guest-size 32M \
    --seconds "${MANAGER_SECONDS:-10}" --runs "${MANAGER_RUNS:-1}" --restart | tee "$out"
[ "$(grep -c '^every page that was read was right; no slot is leaked, and no charge is left$' "$out")" -eq "${MANAGER_RUNS:-1}" ]
