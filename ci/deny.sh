#!/usr/bin/env bash
# Checks the licences, duplicates and sources of all dependencies: first those of the library alone
# (deny.toml), then those of the whole workspace and of the fuzz targets (ci/deny-tools.toml). Does not look
# up known vulnerabilities: that needs RustSec's database, a repository that CI cannot reach. Needs
# cargo-deny, and installs it if it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo deny --version 2>/dev/null || cargo install --locked --debug --config profile.dev.debug=0 cargo-deny@0.20.2

checks=(licenses bans sources)
cargo deny --locked --config deny.toml check "${checks[@]}"
cargo deny --locked --workspace --config ci/deny-tools.toml check "${checks[@]}"
cargo deny --locked --workspace --manifest-path fuzz/Cargo.toml --config ci/deny-tools.toml check "${checks[@]}"
