#!/usr/bin/env bash
# Runs the models of tests/loom.rs, tests/loom_memcg.rs and, without `std`, tests/loom_pages.rs. A model
# explores every order of the atomic accesses of two or three threads, up to a number of preemptions that it
# names, and every value that the memory model allows a load to return.
#
#   LOOM_MAX_PREEMPTIONS=N   for all models instead; each step takes several times as long
#   LOOM_LOG=1, LOOM_CHECKPOINT_FILE=FILE, LOOM_LOCATION=1: to find out where a model fails (loom's docs)
#
# Passes its arguments to libtest: `ci/loom.sh record_vs_migrate` runs one model.
set -euo pipefail
cd "$(dirname "$0")/.."

# A target directory of its own, since these flags apply to everything that is built. Debug assertions stay
# on.
config=()
for package in loom generator tracing tracing-core scoped-tls; do
    config+=(--config "profile.test.package.$package.opt-level=3")
done
RUSTFLAGS="${RUSTFLAGS:-} --cfg swap_records_loom -D warnings" cargo test -p swap-records --features loom --target-dir target/loom \
    --test loom --test loom_memcg "${config[@]}" -- --nocapture "$@"
# Memory that comes in pages.
RUSTFLAGS="${RUSTFLAGS:-} --cfg swap_records_loom -D warnings" cargo test -p swap-records --no-default-features --features loom \
    --target-dir target/loom --test loom_pages "${config[@]}" -- --nocapture "$@"
