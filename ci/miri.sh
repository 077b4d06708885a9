#!/usr/bin/env bash
# Runs Miri, which finds undefined behaviour, and data races under a weak memory model, with Stacked Borrows
# and with Tree Borrows. Under Miri, storage is heap memory, and regions are small. By default, tests the
# unsafe code for three minutes: storage, areas, the spinlock, blocks of slots, the portable scans, the AVX2
# scan with stores lane by lane, each scan with concurrent lookups, and threads that write during migrations.
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
# The tests read from the environment how much to test.
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
# Memory in pages, without `std`.
MIRIFLAGS=$flags cargo +nightly miri test -p swap-records --no-default-features --lib -- store pages:: area swapfile presence validate
MIRIFLAGS="$tree $seeds" cargo +nightly miri test -p swap-records --no-default-features --test pages --test threads -- trimmed together reserved disjoint
# Tree Borrows is ten times as fast if threads share large slices of atomics.
MIRIFLAGS="$tree $seeds" cargo +nightly miri test -p swap-records --test threads -- disjoint
# Other flags need another target directory.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+avx2" MIRIFLAGS=$tree cargo +nightly miri test -p swap-records --target-dir target/miri-avx2 \
    --lib -- scan::tests::avx2::lookups scan::tests::avx2::any_slice
