#!/usr/bin/env bash
# Checks that `.ci/run` stops a step that takes too long, names it, and leaves none of its processes behind.
# This includes processes that ignore the request to end, and processes in a session of their own. A step that
# ends in time leaves no process behind either.
set -euo pipefail
cd "$(dirname "$0")/.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

fail() {
    echo "limits: FAIL: $*" >&2
    cat "$tmp/out" >&2
    exit 1
}

# Runs steps with three seconds for each. On a busy machine, the sleepers need one second to start.
run() {
    status=0
    env -u STEP_TIME STEP_SECONDS="${2:-3}" STEP_GRACE=1 bash -euo pipefail -c "source ci/steps.sh; $1" >"$tmp/out" 2>&1 || status=$?
}

# Starts sleepers of all kinds. Each writes its process id to a file, and ends by itself if this check does
# not stop it.
cat >"$tmp/sleepers" <<'STEP'
#!/usr/bin/env bash
cd "$(dirname "$0")"
sleeper='echo $$ >"$1.new"; mv "$1.new" "$1.pid"; sleep 60; sleep 60'
bash -c "$sleeper" - plain &
bash -c "trap '' TERM; $sleeper" - deaf &
setsid bash -c "trap '' TERM; $sleeper" - session &
(setsid bash -c "$sleeper" - orphan &)
timeout 120 bash -c "$sleeper" - group &
until [ -e plain.pid ] && [ -e deaf.pid ] && [ -e session.pid ] && [ -e orphan.pid ] && [ -e group.pid ]; do
    sleep 0.05
done
[ "$1" = ends ] || wait
STEP
chmod +x "$tmp/sleepers"

none_is_left() {
    local file
    for file in plain deaf session orphan group; do
        [ -s "$tmp/$file.pid" ] || fail "$1: the sleeper $file never ran"
        # A process that has ended has no command line, even if its parent has not waited for it yet.
        ! grep -qs . "/proc/$(cat "$tmp/$file.pid")/cmdline" || fail "$1: the sleeper $file outlived its step"
        rm "$tmp/$file.pid"
    done
}

run "step 1 true; step 1 '$tmp/sleepers' waits; step 1 echo not reached; table"
[ "$status" -eq 124 ] || fail "a step that takes too long: status $status"
grep -q "^CI: FAIL: $tmp/sleepers waits: exceeded its limit of 3 s and was killed after [0-9]* s$" "$tmp/out" ||
    fail "a step that takes too long is not named"
! grep -q '^not reached' "$tmp/out" || fail 'the run went on after a step that took too long'
grep -Eq '^ +[0-9]+ +1 +3  true$' "$tmp/out" || fail 'no table'
none_is_left 'a step that takes too long'

run "step 1 '$tmp/sleepers' ends; step 1 echo reached; table" 30
[ "$status" -eq 0 ] || fail "a step that ends in time: status $status"
grep -q '^reached$' "$tmp/out" || fail 'the run ended after a step that had ended in time'
none_is_left 'a step that ends in time'

run 'step 1 sh -c "exit 3"; step 1 echo not reached; table'
[ "$status" -eq 3 ] || fail "a step that fails: status $status"
grep -q '^CI: FAIL: sh -c exit 3: failed with status 3 after [0-9]* s$' "$tmp/out" || fail 'a step that fails is not named'
! grep -q '^not reached' "$tmp/out" || fail 'the run went on after a step that failed'

run 'run_limit=0; step 1 true; table'
[ "$status" -eq 124 ] || fail "a run that has no time left: status $status"

echo 'limits: a step that takes too long is named, and stopped with all its processes: 4 runs passed'
