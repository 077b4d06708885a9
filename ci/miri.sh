#!/usr/bin/env bash
# Miri: undefined behaviour, and data races under a weak memory model, by Stacked Borrows and by Tree Borrows. Storage is heap
# memory there, and regions are small. Three minutes of what is unsafe: storage, areas, the spinlock, blocks of slots, the portable scans,
# the AVX2 scan with its stores lane by lane, each scan beside lookups; and threads that write beside hand-overs.
#
#   MIRI_ALL=1         all unit tests, the properties of the table, and the stress tests as well: hours
#   MIRI_SEEDS=N       orders of the tests with threads (1)
#   PROPTEST_CASES=N   cases of each property of the table (3)
#
# A night of it: MIRI_ALL=1 MIRI_SEEDS=16 ci/miri.sh
# Needs the nightly toolchain with miri and rust-src, and gets them where they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."

rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
rustup component add miri rust-src --toolchain nightly

export PROPTEST_CASES=${PROPTEST_CASES:-3} SWAP_RECORDS_FEW_CASES=1
# What is asked of the environment is how much to test.
flags=-Zmiri-disable-isolation
tree="$flags -Zmiri-tree-borrows"
seeds=-Zmiri-many-seeds=0..${MIRI_SEEDS:-1}

if [ -n "${MIRI_ALL:-}" ]; then
    for model in "$tree" "$flags"; do
        MIRIFLAGS=$model cargo +nightly miri test -p swap-records -p swap-records-oracle --lib --test against_oracle --test cmpxchg --test operations --test stale
        MIRIFLAGS="$model $seeds" cargo +nightly miri test -p swap-records -p swap-records-oracle --test stress --test threads --test linearizable --test memcg_race
    done
fi

unsafe=(storage swapfile rebuild::tests::the_index sync validate memcg::slot memcg::grace scan::tests::wide::any_slice scan::tests::wide::lookups
    scan::tests::words::any_slice scan::tests::words::lookups scan::tests::words::all_of)
MIRIFLAGS=$flags cargo +nightly miri test -p swap-records --lib -- "${unsafe[@]}"
MIRIFLAGS=$tree cargo +nightly miri test -p swap-records --lib -- "${unsafe[@]}" scan::tests::wide::all_of
# Memory that comes in pages.
MIRIFLAGS=$flags cargo +nightly miri test -p swap-records --no-default-features --lib -- store pages:: area swapfile presence validate
MIRIFLAGS="$tree $seeds" cargo +nightly miri test -p swap-records --no-default-features --test pages --test threads -- trimmed together reserved disjoint
# Tree Borrows are an order of magnitude faster where threads share large slices of atomics.
MIRIFLAGS="$tree $seeds" cargo +nightly miri test -p swap-records --test threads -- disjoint
# Other flags, another folder.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+avx2" MIRIFLAGS=$tree cargo +nightly miri test -p swap-records --target-dir target/miri-avx2 \
    --lib -- scan::tests::avx2::lookups scan::tests::avx2::any_slice
