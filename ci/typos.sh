#!/usr/bin/env bash
# Finds misspelt words in code, comments, documents and scripts. To accept a word, add it to _typos.toml.
# Needs typos, and installs it if it is missing: from its authors' package on PyPI, since building it takes
# minutes, or else with cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.52.0
PATH=$PATH:$PWD/target/typos/bin
if ! typos --version 2>/dev/null; then
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --upgrade \
        --target target/typos "typos==$version" ||
        cargo install --locked --debug --config profile.dev.debug=0 "typos-cli@$version"
fi

typos
