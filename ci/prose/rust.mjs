// The comments of a Rust file as Markdown for textlint: line N of the file is line N of the Markdown.

import { parse } from "@textlint/markdown-to-ast";

// What a Rust file has beside white space, as far as it matters where comments begin: strings and characters hold `//`.
const tokens = RegExp(
    [
        String.raw`(?<line>//[^\n]*)`,
        String.raw`(?<block>/\*)`,
        String.raw`\b(?:b|c|br|cr|r)?r(?<hashes>#*)"[^]*?"\k<hashes>(?!#)`,
        String.raw`"(?:\\[^]|[^"\\])*"`,
        String.raw`'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\\n])'`,
    ].join("|"),
    "gu",
);

/** Returns the end of a block comment, which may hold others. */
function blockEnd(text, start) {
    const bounds = /\/\*|\*\//gu;
    bounds.lastIndex = start;
    let depth = 0;
    for (let bound; (bound = bounds.exec(text)); ) {
        depth += bound[0] === "/*" ? 1 : -1;
        if (depth === 0) return bounds.lastIndex;
    }
    return text.length;
}

/** Returns the comments of a Rust file as Markdown, line by line. */
export function comments(text) {
    const lines = text.split("\n").map(() => "");
    const kinds = lines.map(() => "");
    let line = 0;
    let counted = 0;
    tokens.lastIndex = 0;
    for (let token; (token = tokens.exec(text)); ) {
        for (; counted < token.index; counted++) if (text[counted] === "\n") line++;
        const before = text.slice(text.lastIndexOf("\n", token.index) + 1, token.index);
        if (token.groups.line !== undefined) {
            const [, marker, words] = /^(\/\/[/!]?)(.*)$/u.exec(token.groups.line);
            // Two comments that follow each other are two paragraphs, unless they are of one kind and each a line of its own.
            kinds[line] = before.trim() === "" ? marker : "after code";
            const apart = kinds[line] === "after code" || (kinds[line - 1] && kinds[line - 1] !== kinds[line]);
            lines[line] = (apart ? "* " : "") + words.replace(/^ /u, "");
        } else if (token.groups.block !== undefined) {
            tokens.lastIndex = blockEnd(text, token.index);
            const words = text.slice(token.index, tokens.lastIndex).replace(/^\/\*[*!]?|\*\/$/gu, "");
            words.split("\n").forEach((of, index) => {
                kinds[line + index] ||= "block";
                lines[line + index] ||= of.replace(/^[ \t]*(?:\* ?)?/u, "");
            });
        }
    }
    return lines.join("\n");
}

/** The plugin of textlint for Rust files. */
export default {
    Processor: class {
        availableExtensions() {
            return [".rs"];
        }
        processor() {
            return {
                preProcess(text) {
                    const markdown = comments(text);
                    return { text: markdown, ast: parse(markdown) };
                },
                postProcess: (messages, filePath) => ({ messages, filePath }),
            };
        }
    },
};
