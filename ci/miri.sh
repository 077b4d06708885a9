#!/usr/bin/env bash
# Miri: undefined behaviour, and races under a weak memory model. The scans on the scalar and the portable backend and,
# with stores lane by lane, on AVX2 and AVX-512; the properties of the table on both backends that Miri's processor has;
# threads with several seeds, which is to say several orders. By Stacked Borrows and by Tree Borrows.
#
#   MIRI_SEEDS=N       orders for the tests with threads (4)
#   MIRI_MODELS=...    "stacked tree", or one of them   (both)
#   PROPTEST_CASES=N   cases of each property            (3)
#
# A night of it: MIRI_SEEDS=256 PROPTEST_CASES=64 ci/miri.sh
# Needs the nightly toolchain with miri and rust-src, and gets them where they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."

rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
rustup component add miri rust-src --toolchain nightly

export PROPTEST_CASES=${PROPTEST_CASES:-3} SWAP_RECORDS_FEW_CASES=1
for model in ${MIRI_MODELS:-stacked tree}; do
    # The environment says how much is tested. Storage is heap memory under Miri.
    flags=-Zmiri-disable-isolation
    [ "$model" = stacked ] || flags+=" -Zmiri-tree-borrows"
    MIRIFLAGS=$flags cargo +nightly miri test --lib --test against_oracle --test cmpxchg --test operations
    MIRIFLAGS="$flags -Zmiri-many-seeds=0..${MIRI_SEEDS:-4}" \
        cargo +nightly miri test --test stress --test threads --test memcg_race
done
