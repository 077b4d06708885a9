# Runs steps one after another, each within a limit of its own. `.ci/run` and `ci/limits.sh` source this file.
#
#   STEP_TIME=N      every limit N times as long (1)
#   STEP_SECONDS=N   N seconds for every step, instead of its own limit
#   STEP_GRACE=N     seconds between the request to end and the kill (10)

# CI is stopped after 90 minutes, and its output does not name the step that was running. This limit is lower.
run_limit=$((85 * 60 * ${STEP_TIME:-1}))

# This variable is in the environment of each process that a step starts, even if the process has a process
# group or a session of its own, or its parent has ended.
mark=STEP_OF_RUN_$$
steps=()

# Kills the processes that the step has left running. If a process forks while the list is made, the next
# round finds its child.
sweep() {
    local found pid round
    [ -z "${group:-}" ] || kill -KILL -- "-$group" 2>/dev/null || true
    group=
    for round in {1..100}; do
        # grep fails if a process ends meanwhile.
        found=$(grep -lsz "^$mark=" /proc/[0-9]*/environ) || true
        [ -n "$found" ] || return 0
        for pid in $found; do
            pid=${pid#/proc/}
            kill -KILL "${pid%/environ}" 2>/dev/null || true
        done
        # A killed process is listed until it has ended.
        sleep 0.1
    done
    echo "CI: processes that still exist after $round rounds of kills: $found" >&2
}

# Each step that was started, with its seconds.
table() {
    local row total=0
    printf '\n%8s  %8s  %8s  %s\n' seconds usual limit step
    for row in "${steps[@]}"; do
        # shellcheck disable=SC2086 # four columns
        printf '%8s  %8s  %8s  %s\n' ${row%%|*} "${row#*|}"
        total=$((total + ${row%% *}))
    done
    printf '%8s  %8s  %8s  %s\n' "$total" '' "$run_limit" 'all of them'
}

# step SECONDS COMMAND...: SECONDS is the time of the step on two cores. The limit is three times that, and at
# least a minute. A step that fails or exceeds its limit ends the run.
step() {
    local usual=$1 limit left start=$SECONDS status=0 took
    shift
    limit=$((3 * usual < 60 ? 60 : 3 * usual))
    limit=${STEP_SECONDS:-$((limit * ${STEP_TIME:-1}))}
    left=$((run_limit - SECONDS))
    if [ "$left" -lt 1 ]; then
        finish 124 "no time is left for this step: the run may take $run_limit s" "$@"
    fi
    [ "$limit" -le "$left" ] || limit=$left

    printf '\n== %s (at most %s s)\n' "$*" "$limit"
    # `timeout` makes a process group of its own.
    env "$mark=1" timeout --kill-after="${STEP_GRACE:-10}" "$limit" "$@" &
    group=$!
    wait "$group" || status=$?
    took=$((SECONDS - start))
    sweep
    steps+=("$took $usual $limit|$*")
    case $status in
    0) printf '== %s: %s s\n' "$*" "$took" ;;
    124 | 137)
        [ "$took" -lt "$limit" ] || finish 124 "exceeded its limit of $limit s and was killed after $took s" "$@"
        finish "$status" "failed with status $status after $took s" "$@"
        ;;
    *) finish "$status" "failed with status $status after $took s" "$@" ;;
    esac
}

# Ends the run: its status, why, and the step.
finish() {
    local status=$1 why=$2
    shift 2
    table >&2
    printf '\nCI: FAIL: %s: %s\n' "$*" "$why" >&2
    exit "$status"
}

# An interrupted run first asks its step to end, so that the step can clean up.
interrupted() {
    local tenth
    [ -z "${group:-}" ] || kill -TERM -- "-$group" 2>/dev/null || true
    for ((tenth = 0; tenth < 10 * ${STEP_GRACE:-10}; tenth++)); do
        kill -0 "${group:-}" 2>/dev/null || break
        sleep 0.1
    done
    sweep
    exit "$1"
}
trap 'interrupted 130' INT
trap 'interrupted 143' TERM HUP
