#!/usr/bin/env bash
# No word is misspelt, in code, comments, documents or scripts. A word that is right goes into _typos.toml.
# Needs typos, and gets it where it is missing: as its authors' package on PyPI, since building it takes minutes, or else
# by cargo.
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
