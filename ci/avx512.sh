#!/bin/sh
# Runs the tests of the AVX-512 scan (the unit tests whose path contains `scan`) on any x86-64 machine with
# Debian's packages and root: natively where the processor has AVX-512BW, else inside an emulator. Without
# this script, CI would compile that code and never run it.
#
# The emulator is Bochs, because neither qemu's TCG nor valgrind decodes EVEX. Bochs has no user mode. So it
# boots Debian's kernel with an initramfs. The initramfs holds the test program, linked statically, and
# ci/avx512-init.rs, which runs the program and stops the machine. Booting takes about 20 s (45 s on a busy
# machine). Then Bochs executes at most about 50 million instructions per second, so keep the tests of `scan`
# small.
#
# Passes only if the machine that ran the tests has AVX-512BW, if libtest prints `test result: ok` with at
# least one passed test, and if at least one passed test has `avx512` in its name. A filter that matches
# nothing, and a run without the instructions, must not look like a success.
#
#   SCAN_FILTER      libtest filter                          (scan)
#   SCAN_MUST_PASS   a test matching this ERE has to pass    (avx512)
#   SCAN_TIME_LIMIT  seconds allowed to the emulator         (180)
#   SCAN_ENV         NAME=value words for the tests in the emulator (SWAP_RECORDS_FEW_CASES=1)
#   SCAN_EMULATE=1   use the emulator even where it is not needed
set -eu
export LC_ALL=C

filter=${SCAN_FILTER:-scan}
must_pass=${SCAN_MUST_PASS:-avx512}
limit=${SCAN_TIME_LIMIT:-180}
target=x86_64-unknown-linux-gnu

cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
emulator=
cleanup() {
    if [ -n "$emulator" ]; then
        kill "$emulator" 2>/dev/null || :
        wait "$emulator" 2>/dev/null || :
    fi
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

fail() {
    echo "avx512: FAIL: $*" >&2
    exit 1
}

# No colours: the guest's serial console is a terminal to libtest. One thread: a panic in one test
# cannot mix its text into the line of another.
arguments() {
    printf '%s\n' --test-threads=1 --color=never --show-output "$filter"
}

# Checks the output of libtest.
judge() {
    grep -Eq '^test result: ok\. [1-9][0-9]* passed; 0 failed;' "$1" ||
        fail "no 'test result: ok' with at least one test passed"
    grep -E '^test .* \.\.\. ok$' "$1" | grep -Eq "^test [^ ]*($must_pass)" ||
        fail "no test with '$must_pass' in its name passed"
    # A test that returns early because the instructions are missing prints that, and libtest counts it as
    # `ok`.
    if grep -v '^test ' "$1" | grep -Ei 'avx-?512' | grep -Eiq 'skip|not (available|supported)'; then
        fail "a test was skipped because AVX-512 is missing"
    fi
    echo "avx512: PASS ($2)"
}

if [ -z "${SCAN_EMULATE:-}" ] && grep -qw avx512bw /proc/cpuinfo; then
    arguments | tr '\n' '\0' >"$tmp/args"
    status=0
    xargs -0 cargo test -p swap-records --lib -- <"$tmp/args" >"$tmp/out" || status=$?
    cat "$tmp/out"
    [ "$status" -eq 0 ] || fail "cargo test ended with $status"
    judge "$tmp/out" "this processor"
    exit 0
fi

# bochs-term draws into a pipe; the other displays need a client or an X server.
need='bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso cpio'
missing=
for package in $need; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
        missing="$missing $package"
done
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # a list of words
    apt-get -qq -y install --no-install-recommends $missing >"$tmp/apt.log" 2>&1 || {
        cat "$tmp/apt.log"
        fail "apt-get install$missing"
    }
fi

# The kernel is unpacked, not installed: installing would run the boot loader's hooks. The `cloud`
# flavour has few drivers and boots sooner; the package of that name only depends on the real one.
kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
[ -n "$kernel" ] || fail "linux-image-cloud-amd64: no such package"
(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$kernel" && dpkg-deb -x "$kernel"_*.deb kernel)

# With --target the flags reach neither build scripts nor procedural macros. This crate alone is optimized a
# little: emulated instructions are slow, and a wrong clobber list of an `asm!` block is noticed more often
# with optimization. Debug assertions stay on.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" cargo test -p swap-records --lib --no-run \
    --config profile.test.debug=0 --config profile.test.opt-level=1 \
    --config 'profile.test.package."*".opt-level=0' \
    --target "$target" --message-format=json-render-diagnostics >"$tmp/messages" ||
    fail "the tests do not build"
test=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$tmp/messages" | tail -n 1)
[ -x "$test" ] || fail "cargo named no executable"

image=$tmp/image
mkdir -p "$image/proc" "$image/dev" "$image/tmp" "$tmp/iso/isolinux"
strip -o "$image/test" "$test"
rustc --edition 2024 -O -C strip=symbols -C target-feature=+crt-static --target "$target" \
    -o "$image/init" ci/avx512-init.rs
arguments >"$image/args"
(cd "$image" && find . | cpio --quiet -o -H newc -R 0:0) >"$tmp/iso/initrd"

cp "$tmp"/kernel/boot/vmlinuz-* "$tmp/iso/vmlinuz"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$tmp/iso/isolinux/"
# clearcpuid: Bochs 2.7 gives the size of the uncompacted state for the compacted one (CPUID 0Dh.1
#   EBX); Linux compares, and gives up every extended state, AVX-512 with it. Without XSAVEC and
#   XSAVES it uses the plain layout, whose size is right.
# acpi, pci, lsm, cryptomgr, nosmp, lpj, tsc, mitigations: less to boot.
# loglevel=1: a message of the kernel inside a line of libtest's would break the reading below,
#   and each character costs. A panic is printed all the same.
# panic=-1 reboot=triple: a panic, and the regular end, is a triple fault, which ends Bochs.
cat >"$tmp/iso/isolinux/isolinux.cfg" <<EOF
default test
prompt 0
label test
kernel /vmlinuz
append initrd=/initrd console=ttyS0,115200 loglevel=1 panic=-1 reboot=triple clearcpuid=xsaves,xsavec nosmp nokaslr mitigations=off acpi=off pci=off lsm= cryptomgr.notests lpj=1000000 tsc=reliable ${SCAN_ENV-SWAP_RECORDS_FEW_CASES=1}
EOF
xorriso -as mkisofs -quiet -o "$tmp/cd.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat \
    -no-emul-boot -boot-load-size 4 -boot-info-table "$tmp/iso" 2>"$tmp/xorriso.log" || {
    cat "$tmp/xorriso.log"
    fail "xorriso"
}

# ips is not a speed limit. It is the number of instructions per emulated second, and so determines how many
# are spent waiting for timers and the serial line. No sound device: Bochs 2.7 aborts on a machine without a
# sound card.
cat >"$tmp/bochsrc" <<EOF
config_interface: textconfig
display_library: term
cpu: model=corei7_skylake_x, count=1, ips=10000000, reset_on_triple_fault=0
memory: guest=256, host=256
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path="$tmp/cd.iso", status=inserted
boot: cdrom
clock: sync=none
com1: enabled=1, mode=file, dev="$tmp/serial"
plugin_ctrl: speaker=0, sb16=0, es1370=0, gameport=0, parallel=0, voodoo=0, usb_uhci=0
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
log: "$tmp/bochs.log"
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
EOF
# Debian's Bochs has its debugger built in and starts at its prompt.
printf 'continue\nquit\n' >"$tmp/debugger"

: >"$tmp/serial"
start=$(date +%s)
status=0
# Bochs outlives SIGTERM: -k.
TERM=xterm timeout -k 1 "$limit" bochs-bin -q -f "$tmp/bochsrc" -rc "$tmp/debugger" \
    </dev/null >"$tmp/display" 2>&1 &
emulator=$!
wait "$emulator" || status=$?
emulator=
echo "avx512: emulated for $(($(date +%s) - start)) s"

tr -d '\r' <"$tmp/serial" >"$tmp/out"
cat "$tmp/out"
case $status in
124 | 137) fail "the emulator was stopped after $limit s" ;;
esac
if ! grep -q '^guest: ' "$tmp/out"; then
    tail -n 20 "$tmp/bochs.log" "$tmp/display" || :
    fail "the guest never came up"
fi
grep -qx 'guest: avx512bw=true' "$tmp/out" || fail "no AVX-512BW in the guest"
grep -qx 'guest: exit status: 0' "$tmp/out" || fail "the tests did not end with status 0"
judge "$tmp/out" "emulated"
