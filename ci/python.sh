#!/usr/bin/env bash
# Runs the Python code of docs/image-format.md, line by line, on an image that the example `image` wrote. It
# must find the records that the example finds. Needs python3 with numpy, and installs Debian's python3-numpy
# if it is missing. If that fails, prints a message and checks nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! python3 -c 'import numpy' 2>/dev/null; then
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 install \
        --no-install-recommends python3 python3-numpy >/dev/null; } || true
fi
# Debian's packages are those of Debian's own python3.
python=
for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import numpy' 2>/dev/null; then python=$candidate && break; fi
done
if [ -z "$python" ]; then
    echo 'python: skipped: there is no python3 with numpy, and python3-numpy cannot be installed'
    exit 0
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
awk '/^```/ { inside = /^```python$/; next } inside' docs/image-format.md >"$tmp/page.py"
[ "$(grep -c numpy.memmap "$tmp/page.py")" -eq 2 ] || { echo 'python: FAIL: the page does not have two uses of numpy.memmap'; exit 1; }
# The first line of the page maps the first type.
cat >>"$tmp/page.py" <<'PYTHON'
import sys
first = numpy.memmap("records.image", dtype="<u2", mode="r", offset=4096, shape=1 << 20)
print("first", numpy.count_nonzero(first), file=sys.stderr)
PYTHON

cargo run --quiet --release --example image -- "$tmp/records.image" >"$tmp/rust"
(cd "$tmp" && "$python" page.py >python 2>first) || { cat "$tmp/first"; exit 1; }
diff "$tmp/rust" "$tmp/python"
[ "$(wc -l <"$tmp/python")" -eq 2 ]
[ "$(awk '{ print $2 }' "$tmp/first")" = "$(awk 'NR == 1 { print $3 }' "$tmp/rust")" ]
echo "python: numpy $("$python" -c 'import numpy; print(numpy.__version__)') finds what the crate does: $(tr '\n' ';' <"$tmp/python")"
