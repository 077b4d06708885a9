#!/usr/bin/env bash
# Plots are whole, and their labels lie inside the picture: ci/svg.sh FILE...
# The width of a label is an estimate: 0.6 of the font's size for each letter, as wide fonts have it.
set -euo pipefail

for svg in "$@"; do
    awk -v file="$svg" '
        function attribute(name) {
            return match($0, " " name "=\"[^\"]*") ? substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) : ""
        }
        function wrong(what) { print file ": " what > "/dev/stderr"; bad = 1 }
        /^<svg / { width = attribute("width"); height = attribute("height") }
        /^<text / {
            # A label that is turned runs along the height.
            turned = attribute("transform") != ""
            # + 0: as numbers, not as text.
            at = attribute(turned ? "y" : "x") + 0; end = (turned ? height : width) + 0
            anchor = attribute("text-anchor"); size = attribute("font-size")
            getline text
            long = 0.6 * size * length(text)
            from = anchor == "start" ? at : anchor == "middle" ? at - long / 2 : at - long
            if (from < 0 || from + long > end)
                wrong("\"" text "\" reaches from " int(from) " to " int(from + long) " of " end ": make room for it")
            labels++
        }
        /^<\/svg>/ { whole = 1 }
        END {
            if (!whole) wrong("there is no </svg>: the plot is cut off")
            if (labels < 5) wrong("has " labels + 0 " labels: a plot has a title, axes and names")
            exit bad
        }' "$svg"
done
