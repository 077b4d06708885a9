#!/usr/bin/env bash
# Without std: `core` and `alloc` only, on a target that has no std to lean on by accident; the tests of the table on
# heap storage, on this machine; and programs of freestanding/, which have no operating system's library: they run, one of them with
# memory that is refused and locks that watch, and the text of another and the instructions of a scan stay below a bar. Those programs need Linux on x86-64, and valgrind, which is installed where
# it is missing.
#
#   ci/no_std.sh bars   runs the programs, prints the numbers, and does nothing else
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
rustup target add x86_64-unknown-none riscv64gc-unknown-none-elf

# bar NAME NUMBER MOST [LIMIT]: a bar that is missed is said to be; above the limit, which is the bar if none is given, it fails.
bar() {
    local missed=
    [ "$2" -le "$3" ] || missed=' MISSED'
    printf '%-44s %8s of at most %8s%s\n' "$1" "$2" "$3" "$missed"
    [ "$2" -le "${4:-$3}" ] || { echo "no_std: FAIL: $1"; exit 1; }
}

# The bytes of code of a program.
text_of() {
    size -A "$1" | awk '$1 == ".text" { print $2 }'
}

# The instructions of the function that a program of freestanding/ calls once.
instructions_of() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect="$1" "$2" 2>&1 |
        awk '/Collected :/ { print $NF; found = 1 } END { exit !found }'
}

bars() {
    local features program function
    command -v valgrind >/dev/null || { apt-get -qq update && apt-get -qq -y install --no-install-recommends valgrind >/dev/null; }
    # Where the target has no vectors, `simd` adds nothing.
    # Since memory comes in pages, the text is above its bar. The limit keeps it from growing further.
    for features in '' simd; do
        (cd freestanding && cargo build --locked --release --features "$features")
        for program in table scan kernel; do
            timeout 120 freestanding/target/x86_64-unknown-none/release/$program || {
                echo "no_std: FAIL: $program ended with $?"
                exit 1
            }
        done
        bar "text of all of the table, features '$features'" \
            "$(text_of freestanding/target/x86_64-unknown-none/release/table)" 32768 47360
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

# Where atomics of 64 bits are missing, one sentence says so, and no other error does.
rustup target add thumbv7em-none-eabihf
refused=$(cargo check -p swap-records --no-default-features --target thumbv7em-none-eabihf 2>&1) && { echo "it builds without them"; exit 1; }
if [ "$(grep '^error' <<<"$refused" | grep -cv 'could not compile')" -ne 1 ] ||
    ! grep -q '^error: swap-records needs atomics of 64 bits' <<<"$refused"; then
    echo "$refused"
    exit 1
fi
