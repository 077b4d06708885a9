#!/usr/bin/env bash
# The documents and the comments are plain English: ci/prose/rules.mjs says which words they avoid, and how long a sentence
# may be. ci/prose/check.mjs says how a sentence is excepted.
#
#   ci/prose.sh           every document, and the comments of every Rust file
#   ci/prose.sh FILE...   these files only
#
# Needs textlint, and gets it from npm (ci/npm.sh).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/ci/npm.sh"
npm_tool prose

check() { node "$root/target/prose/check/check.mjs" "$@"; }

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
