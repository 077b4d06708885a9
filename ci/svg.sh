#!/usr/bin/env bash
# Plots are whole and opaque, and their labels lie inside the picture and apart: ci/svg.sh FILE...
# ci/svg/check.mjs renders them. Needs resvg, and gets it from npm (ci/npm.sh).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/ci/npm.sh"
npm_tool svg

check() { node "$root/target/svg/check/check.mjs" "$@"; }

# The check finds what it has to find: a label that is cut, as one of css-free.svg once was, and so on.
while read -r file what; do
    found=$(check "$root/ci/svg/fixtures/$file" 2>&1) && fail "nothing is found in ci/svg/fixtures/$file"
    grep -qF "$what" <<<"$found" || fail "ci/svg/fixtures/$file: \"$what\" is not found, but: $found"
done <<'FIXTURES'
cut.svg "no id left: creation fails after 74,768 cgroups" leaves the picture
turned.svg "a label that is turned and too long for the height" leaves the picture
overlap.svg "one label" and "another label" overlap
transparent.svg the picture is transparent
empty.svg has 1 labels
half.svg the root node was opened but never closed
FIXTURES

check "$@"
