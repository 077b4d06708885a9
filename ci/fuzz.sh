#!/usr/bin/env bash
# Each fuzz target for a bounded time, from the committed inputs (seed-*) and what earlier runs left next to
# them in fuzz/corpus. Prints how often each was executed. Needs the nightly toolchain and cargo-fuzz, and gets
# them where they are missing. How a crash becomes a test: docs/fuzzing.md.
#
#   FUZZ_SECONDS   for each target                (60)
#   FUZZ_TARGETS   which of them                  (all)
#   FUZZ_FLAGS     for `cargo fuzz`               (none: with the address sanitizer; `-s none` is faster)
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
# `threads` needs the processors for itself.
read -ra targets <<<"${FUZZ_TARGETS:-cmpxchg ops migrate scan entry image threads}"
read -ra flags <<<"${FUZZ_FLAGS:-}"

[[ $'\n'$(rustup toolchain list) == *$'\n'nightly* ]] || rustup toolchain install nightly --profile minimal
cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked

cargo fmt --manifest-path fuzz/Cargo.toml --check
cargo clippy --locked --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings
cargo +nightly fuzz build "${flags[@]}"

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

fuzz() {
    cargo +nightly fuzz run "${flags[@]}" "$1" -- -max_total_time="$seconds" >"$logs/$1" 2>&1
}

# A run counts if libFuzzer says how often it executed the target.
report() {
    local target=$1 status=$2 runs
    runs=$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$logs/$target" | tail -n 1)
    if [ "$status" -ne 0 ] || [ "${runs:-0}" -eq 0 ]; then
        tail -n 200 "$logs/$target"
        echo "fuzz: $target: FAIL (status $status)"
        return 1
    fi
    echo "fuzz: $target: $runs executions, $(sed -n 's/.*DONE *\(cov: [0-9]*\).*corp: \([0-9]*\).*/\1, \2 inputs kept/p' "$logs/$target")"
}

failed=0
pairs=()
for target in "${targets[@]}"; do
    [ "$target" = threads ] || pairs+=("$target")
done
for ((at = 0; at < ${#pairs[@]}; at += 2)); do
    running=()
    for target in "${pairs[@]:at:2}"; do
        fuzz "$target" &
        running+=("$target:$!")
    done
    for one in "${running[@]}"; do
        status=0
        wait "${one#*:}" || status=$?
        report "${one%:*}" "$status" || failed=1
    done
done
if [[ " ${targets[*]} " == *" threads "* ]]; then
    status=0
    fuzz threads || status=$?
    report threads "$status" || failed=1
fi
exit "$failed"
