// Renders plots, and looks at each of their labels: node check.mjs FILE...   Ends with 1 where something is wrong.
//
// A label must lie inside the picture, and must not lie on another one. The picture must be opaque, so that it can be read
// on a light and on a dark page; and it must be a whole SVG, with labels enough for a title, axes and names.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Resvg } from "@resvg/resvg-js";

// Browsers show "sans-serif" in a font of their own. DejaVu Sans is the widest of the usual ones.
const font = {
    loadSystemFonts: false,
    fontFiles: [createRequire(import.meta.url).resolve("dejavu-fonts-ttf/ttf/DejaVuSans.ttf")],
    defaultFontFamily: "DejaVu Sans",
    sansSerifFamily: "DejaVu Sans",
};
/** The fewest labels of a plot. */
const fewest = 5;
/** Where a label is moved to before it is measured, so that its place in the picture cuts nothing. */
const aside = 10_000;

/** Returns what is wrong with a plot. */
function wrong(svg) {
    const found = [];
    const picture = new Resvg(svg, { font });
    const { width, height } = picture;
    const pixels = picture.render().pixels;
    if (pixels.some((byte, index) => index % 4 === 3 && byte !== 255)) {
        found.push("the picture is transparent somewhere: text may have the colour of the page");
    }

    const labels = [...svg.matchAll(/<text\b[^>]*>([^<]*)<\/text>/gu)].map(([element, text]) => {
        const size = 2 * aside;
        const alone =
            `<svg xmlns="http://www.w3.org/2000/svg" width="${size}" height="${size}">` +
            `<g transform="translate(${aside} ${aside})">${element}</g></svg>`;
        const box = new Resvg(alone, { font }).getBBox();
        if (!box) throw new Error(`nothing is drawn for the label "${text.trim()}"`);
        const [left, top] = [box.x - aside, box.y - aside];
        return { text: text.trim(), left, top, right: left + box.width, bottom: top + box.height };
    });
    if (labels.length < fewest) found.push(`has ${labels.length} labels: a plot has a title, axes and names`);
    labels.forEach((label, index) => {
        const { text, left, top, right, bottom } = label;
        const place = `from (${left.toFixed(0)}, ${top.toFixed(0)}) to (${right.toFixed(0)}, ${bottom.toFixed(0)})`;
        if (left < 0 || top < 0 || right > width || bottom > height) {
            found.push(`"${text}" leaves the picture of ${width} by ${height}: it reaches ${place}`);
        }
        for (const other of labels.slice(index + 1)) {
            if (left < other.right && other.left < right && top < other.bottom && other.top < bottom) {
                found.push(`"${text}" and "${other.text}" overlap`);
            }
        }
    });
    return found;
}

const files = process.argv.slice(2);
let total = 0;
for (const file of files) {
    let found;
    try {
        found = wrong(readFileSync(file, "utf8"));
    } catch (error) {
        found = [error.message];
    }
    total += found.length;
    for (const what of found) console.log(`${file}: ${what}`);
}
console.error(`svg: ${total} findings in ${files.length} plots`);
process.exitCode = total > 0 ? 1 : 0;
