#!/usr/bin/env bash
# The tests on other processors than this one, emulated: aarch64, where the portable scan is NEON;
# x86-64 without AVX2 and AVX-512, where the processor is asked and says no; 32 bits (i686); and
# big-endian (s390x). Every backend that such a machine has is forced in turn by `against_oracle`.
#
# Needs root and Debian's packages. Passes only if tests ran: `cargo test` fails where a runner does.
#
#   MACHINES  which of them, in one line (aarch64 no-avx i686 s390x)
set -euo pipefail
cd "$(dirname "$0")/.."

machines=${MACHINES:-aarch64 no-avx i686 s390x}
# The rest asks the kernel, which qemu-user does not emulate, or takes long and learns nothing here: the
# order of memory stays that of this processor.
tests=(--lib --test against_oracle --test cmpxchg --test linearizable --test migration --test operations
    --test values)
# Emulated instructions are dear.
export SWAP_RECORDS_FEW_CASES=1

packages=(qemu-user)
for machine in $machines; do
    case $machine in
    aarch64) packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross) ;;
    i686) packages+=(gcc-i686-linux-gnu libc6-dev-i386-cross) ;;
    s390x) packages+=(gcc-s390x-linux-gnu libc6-dev-s390x-cross) ;;
    esac
done
if ! dpkg-query -W -f '${db:Status-Status}\n' "${packages[@]}" 2>&1 | { ! grep -qvx installed; }; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${packages[@]}" >/dev/null
fi

# A target, its linker, and what runs it.
emulate() {
    local target=$1 linker=$2 upper
    shift 2
    upper=$(tr 'a-z-' 'A-Z_' <<<"$target")
    rustup target add "$target"
    env "CARGO_TARGET_${upper}_LINKER=$linker" "CARGO_TARGET_${upper}_RUNNER=$*" \
        cargo test --config profile.test.debug=0 --target "$target" "${tests[@]}"
}

for machine in $machines; do
    printf '\n== %s\n' "$machine"
    case $machine in
    aarch64) emulate aarch64-unknown-linux-gnu aarch64-linux-gnu-gcc qemu-aarch64 -L /usr/aarch64-linux-gnu ;;
    # The programs that `cargo test` has built already.
    no-avx) CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='qemu-x86_64 -cpu Nehalem' cargo test "${tests[@]}" ;;
    i686) emulate i686-unknown-linux-gnu i686-linux-gnu-gcc qemu-i386 -L /usr/i686-linux-gnu ;;
    s390x) emulate s390x-unknown-linux-gnu s390x-linux-gnu-gcc qemu-s390x -L /usr/s390x-linux-gnu ;;
    *) echo "no machine is called $machine" >&2 && exit 2 ;;
    esac
done
