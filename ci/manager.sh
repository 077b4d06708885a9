#!/usr/bin/env bash
# Runs guests under a memory manager over userfaultfd. Some guests are killed, and so is the manager: between all
# steps whose order matters, and at random moments. No byte, slot or charge may be lost. `cargo test` runs the tests,
# too. Here, a machine that cannot run them fails, instead of being counted as skipped. Also runs the command that
# README names. Needs Linux 5.19; one test needs root.
#
#   MANAGER_RUNS=10 MANAGER_SECONDS=60   the long form (1 run of 10 seconds)
#   MANAGER_SHARE=3                      fails if the table and the tree take more of the manager's time, in percent.
#                                        The bar is 3. The default is 6, since other work on a CI machine empties the
#                                        caches, and the table feels that more than system calls do.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${MANAGER_RUNS:-1}
seconds=${MANAGER_SECONDS:-10}
most=${MANAGER_SHARE:-6}

SWAP_RECORDS_REQUIRE_MANAGER=1 cargo test -p swap-records-manager --test guests

out=$(mktemp)
trap 'rm -f "$out"' EXIT
# From the root, as README has it. The last line of each run is the summary.
manager() {
    cargo run --release --example manager -- --guests 8 --memory 64M --guest-size 32M --restart \
        --seconds "$seconds" --runs "$runs" "$@" | tee "$out"
    [ "$(grep -c '^every page that was read was right; no slot is leaked, and no charge is left$' "$out")" -eq "$runs" ]
}

manager
# The share is of all calls, those included that a restart makes.
awk -v most="$most" '
    /^table and tree, of the manager/ {
        nr++
        share = $8 + 0
        printf "manager: the table and the tree took %.2f%% of its time (bar: 3%%, fails above %s%%)\n", share, most
        if (share <= 0 || share > most) bad = 1
    }
    END { exit bad || !nr }' "$out"

# Managers end at each of the 23 steps. That is many restarts, so the share is not that of a manager at work.
manager --end-at all
awk '/at a step that was named/ { met = $NF } END { exit !(met > 0) }' "$out"
