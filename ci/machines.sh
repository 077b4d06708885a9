#!/usr/bin/env bash
# Runs the tests on other machines than this one: aarch64, where the portable scan uses NEON; x86-64 without
# AVX2 and AVX-512, so that the detection finds neither; 32 bits (i686); and big-endian (s390x).
# `against_oracle` forces every backend that such a machine has, one after another.
#
# The kernel runs 32-bit programs by itself; the other machines are emulated by qemu's user emulation. On some
# hosts, Debian's qemu-i386 7.2 spins forever at the first thread of any program. So this script uses it only
# if the kernel refuses 32-bit programs, and only after it has run a program with a thread.
#
# Needs root and Debian's packages. Passes only if tests ran on each machine.
#
#   MACHINES  which of them, in one line (aarch64 no-avx i686 s390x)
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

machines=${MACHINES:-aarch64 no-avx i686 s390x}
# The other tests need parts of the kernel that qemu-user does not emulate, or take long and test nothing new:
# the memory order stays that of this processor.
tests=(--package swap-records --package swap-records-oracle --lib --test against_oracle --test cmpxchg --test linearizable --test migration
    --test operations --test values --test image)
# Emulated instructions are slow.
export SWAP_RECORDS_FEW_CASES=1

packages=()
for machine in $machines; do
    case $machine in
    aarch64) packages+=(qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross) ;;
    no-avx) packages+=(qemu-user) ;;
    i686) packages+=(gcc-i686-linux-gnu libc6-dev-i386-cross) ;;
    s390x) packages+=(qemu-user gcc-s390x-linux-gnu libc6-dev-s390x-cross) ;;
    *) echo "machines: no machine is called $machine" >&2 && exit 2 ;;
    esac
done

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

install() {
    if ! dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>&1 | { ! grep -qvx installed; }; then
        apt-get -qq update
        # Another apt-get may be running.
        DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 install --no-install-recommends \
            "$@" >/dev/null
    fi
}

# Arguments: a target, its linker (empty: this machine's), and the runner. `cargo test` fails if the runner
# fails. The output of the tests shows that the runner ran some.
run() {
    local target=$1 linker=$2 upper settings passed
    shift 2
    upper=$(tr 'a-z-' 'A-Z_' <<<"$target")
    settings=("CARGO_TARGET_${upper}_RUNNER=$*")
    # `cargo test` has already built the programs of this machine.
    if [ -n "$linker" ]; then
        rustup target add "$target"
        settings+=("CARGO_TARGET_${upper}_LINKER=$linker" "CARGO_BUILD_TARGET=$target" CARGO_PROFILE_TEST_DEBUG=0)
    fi
    env "${settings[@]}" cargo test "${tests[@]}" 2>&1 | tee "$tmp/$machine"
    passed=$(awk '/^test result: ok\. / { passed += $4 } END { print passed + 0 }' "$tmp/$machine")
    if [ "$passed" -eq 0 ]; then
        echo "machines: $machine: no test ran" >&2
        exit 1
    fi
    echo "machines: $machine: $passed tests passed, run by ${*:-this machine}"
}

# Prints the command that runs 32-bit programs here: the loader of the cross libc, if the kernel runs them, or
# else qemu-i386. Each must run a program that starts a thread and prints the width of its pointers.
runner_of_i686() {
    local library=/usr/i686-linux-gnu/lib native
    rustup target add i686-unknown-linux-gnu >&2
    cat >"$tmp/probe.rs" <<'RUST'
fn main() {
    let bits = std::thread::spawn(|| usize::BITS).join().unwrap();
    println!("{bits} bits");
}
RUST
    rustc --edition 2024 --target i686-unknown-linux-gnu -C linker=i686-linux-gnu-gcc -o "$tmp/probe" "$tmp/probe.rs"
    native=("$library/ld-linux.so.2" --library-path "$library")
    if [ "$(timeout -k 1 30 "${native[@]}" "$tmp/probe")" = '32 bits' ]; then
        echo "${native[*]}"
        return
    fi
    echo 'machines: this kernel cannot run 32-bit programs: trying qemu-i386' >&2
    install qemu-user
    if [ "$(timeout -k 1 30 qemu-i386 -L /usr/i686-linux-gnu "$tmp/probe")" = '32 bits' ]; then
        echo qemu-i386 -L /usr/i686-linux-gnu
        return
    fi
    echo 'machines: i686: FAIL: this kernel runs no 32-bit programs, and qemu-i386 no threads;' \
        'a kernel with CONFIG_IA32_EMULATION, or a later qemu, is needed' >&2
    return 1
}

install "${packages[@]}"
for machine in $machines; do
    printf '\n== %s\n' "$machine"
    case $machine in
    aarch64) run aarch64-unknown-linux-gnu aarch64-linux-gnu-gcc qemu-aarch64 -L /usr/aarch64-linux-gnu ;;
    no-avx) run x86_64-unknown-linux-gnu '' qemu-x86_64 -cpu Nehalem ;;
    i686)
        runner=$(runner_of_i686)
        read -ra runner <<<"$runner"
        run i686-unknown-linux-gnu i686-linux-gnu-gcc "${runner[@]}"
        ;;
    s390x) run s390x-unknown-linux-gnu s390x-linux-gnu-gcc qemu-s390x -L /usr/s390x-linux-gnu ;;
    esac
done
