#!/usr/bin/env bash
# Licences, duplicates and sources of what is depended on: of the library alone (deny.toml), then of the whole
# workspace and of the fuzz targets (ci/deny-tools.toml). Known vulnerabilities are not looked up: that needs
# RustSec's database, a repository which CI does not reach. Needs cargo-deny, and gets it where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo deny --version 2>/dev/null || cargo install --locked --debug --config profile.dev.debug=0 cargo-deny@0.20.2

checks=(licenses bans sources)
cargo deny --locked --config deny.toml check "${checks[@]}"
cargo deny --locked --workspace --config ci/deny-tools.toml check "${checks[@]}"
cargo deny --locked --workspace --manifest-path fuzz/Cargo.toml --config ci/deny-tools.toml check "${checks[@]}"
