#!/usr/bin/env bash
# Checks the library without std:
#
# - It builds with `core` and `alloc` only, on targets that have no std.
# - The tests of the table pass on this machine.
# - The programs of freestanding/, which have no operating system's library, run. One of them is refused memory, and has
#   locks that check their use.
# - The text of a program and the instructions of a scan stay below their bars.
#
# The programs need Linux on x86-64, and valgrind, which is installed if it is missing.
#
#   ci/no_std.sh bars   runs the programs, prints the numbers, and does nothing else
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
rustup target add x86_64-unknown-none riscv64gc-unknown-none-elf

# bar NAME NUMBER MOST [LIMIT]: prints the number, and MISSED if it is above MOST. Fails if it is above LIMIT,
# which is MOST by default.
bar() {
    local missed=
    [ "$2" -le "$3" ] || missed=' MISSED'
    printf '%-44s %8s of at most %8s%s\n' "$1" "$2" "$3" "$missed"
    [ "$2" -le "${4:-$3}" ] || { echo "no_std: FAIL: $1"; exit 1; }
}

# Prints the bytes of code of a program.
text_of() {
    size -A "$1" | awk '$1 == ".text" { print $2 }'
}

# Prints the instructions of a function that a program of freestanding/ calls once.
instructions_of() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect="$1" "$2" 2>&1 |
        awk '/Collected :/ { print $NF; found = 1 } END { exit !found }'
}

bars() {
    local features program function
    command -v valgrind >/dev/null || { apt-get -qq update && apt-get -qq -y install --no-install-recommends valgrind >/dev/null; }
    # If the target has no vectors, `simd` adds nothing. The text is above its bar (docs/text-size.md). The limit
    # keeps the text from growing further.
    for features in '' simd; do
        (cd freestanding && cargo build --locked --release --features "$features")
        for program in table scan kernel; do
            timeout 120 freestanding/target/x86_64-unknown-none/release/$program || {
                echo "no_std: FAIL: $program ended with $?"
                exit 1
            }
        done
        bar "text of all of the table, features '$features'" \
            "$(text_of freestanding/target/x86_64-unknown-none/release/table)" 32768 38912
    done
    for function in scan_to_count scan_to_replace scan_a_range; do
        bar "instructions per region, $function" \
            "$(instructions_of $function freestanding/target/x86_64-unknown-none/release/scan)" 70000
    done
}
if [ "${1:-}" = bars ]; then
    bars
    exit
fi

cargo fmt --manifest-path freestanding/Cargo.toml --check
(cd freestanding && cargo clippy --locked -- -D warnings)
bars

for target in x86_64-unknown-none riscv64gc-unknown-none-elf; do
    cargo build -p swap-records --no-default-features --target $target
done
cargo test -p swap-records -p swap-records-oracle --no-default-features --lib \
    --test against_oracle --test cmpxchg --test linearizable --test max_hold --test migration --test operations --test threads --test values \
    --test glob --test iterators --test texts --test owners --test footprint \
    --test memcg --test memcg_race --test memcg_stress --test memcg_locks --test memcg_long --test memcg_offline \
    --test memcg_stale --test memcg_unwinds --test memcg_interrupts \
    --test locked --test refused --test unwinds --test pages --test pages_later --test pages_refused

# On a target without 64-bit atomics, the only error is one sentence that says so.
rustup target add thumbv7em-none-eabihf
refused=$(cargo check -p swap-records --no-default-features --target thumbv7em-none-eabihf 2>&1) && { echo "no_std: FAIL: the library builds for a target without 64-bit atomics"; exit 1; }
if [ "$(grep '^error' <<<"$refused" | grep -cv 'could not compile')" -ne 1 ] ||
    ! grep -q '^error: swap-records needs atomics of 64 bits' <<<"$refused"; then
    echo "$refused"
    exit 1
fi
