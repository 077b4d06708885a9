// Checks the prose of files: node check.mjs FILE...   Markdown whole, and the comments of Rust.
// Prints FILE:LINE: [RULE] "what was found", what to write instead, and the sentence. Ends with 1 where it found something.
//
// A sentence that must break a rule has the reason on a line of its own above its paragraph:
//   <!-- prose: RULE: REASON -->   in Markdown
//   // prose: RULE: REASON         in Rust

import { readFileSync } from "node:fs";
import { extname } from "node:path";
import { TextlintKernel } from "@textlint/kernel";
import markdown from "@textlint/textlint-plugin-markdown";
import { split } from "sentence-splitter";
import { StringSource } from "textlint-util-to-string";
import { longest, words } from "./rules.mjs";
import rust, { comments } from "./rust.mjs";

const names = new Set(["long", ...words.map((rule) => rule.name)]);

/** The rule of textlint: each sentence has few enough words, and none of those that the rules refuse. */
function prose(context) {
    const { Syntax, RuleError, report, getSource, locator } = context;
    const inside = (node, type) => node && (node.type === type || inside(node.parent, type));
    const check = (node) => {
        // Code is one word, which no rule finds.
        const source = new StringSource(node, {
            replacer: ({ node, maskValue }) => (node.type === Syntax.Code ? maskValue("_") : undefined),
        });
        const text = source.toString();
        const raw = getSource(node);
        for (const sentence of split(text).filter((part) => part.type === "Sentence")) {
            const [start, end] = sentence.range;
            const original = raw
                .slice(source.originalIndexFromIndex(start), source.originalIndexFromIndex(end, true))
                .replace(/\s+/gu, " ");
            const say = (rule, at, found, instead) =>
                report(
                    node,
                    new RuleError(JSON.stringify([rule, found, instead, original]), {
                        padding: locator.at(source.originalIndexFromIndex(start + at) ?? 0),
                    }),
                );
            const length = sentence.raw.split(/\s+/u).filter((word) => /[\p{L}\p{N}_]/u.test(word)).length;
            if (length > longest && !inside(node, Syntax.Header) && !inside(node, "TableCell")) {
                say("long", 0, `${length} words`, `at most ${longest} words: split the sentence, or make a list`);
            }
            for (const { name, find, instead } of words) {
                for (const match of sentence.raw.matchAll(find)) {
                    say(name, match.index, match[0].replace(/\s+/gu, " "), instead);
                }
            }
        }
    };
    return { [Syntax.Paragraph]: check, [Syntax.Header]: check, TableCell: check };
}

/** Returns the exceptions of a text: from which line to which, the rule, and whether something used it. */
function exceptions(file, text) {
    const found = [];
    const lines = text.split("\n");
    const problems = [];
    lines.forEach((line, index) => {
        const words = /^\s*(?:<!--|\/\/)\s*prose:(.*?)(?:-->)?\s*$/u.exec(line);
        if (!words) return;
        const [, rule, reason] = /^\s*([\w-]+):\s*(.*)$/u.exec(words[1]) ?? [];
        if (!names.has(rule) || !reason) {
            const text = `${file}:${index + 1}: [exception] write "prose: RULE: REASON"; the rules: ${[...names].join(", ")}`;
            problems.push({ line: index + 1, text });
            return;
        }
        // To the end of the paragraph that follows.
        let last = index + 1;
        const empty = (line) => line === undefined || /^\s*(?:\/\/[/!]?)?\s*$/u.test(line);
        while (last < lines.length && empty(lines[last])) last++;
        while (last < lines.length && !empty(lines[last])) last++;
        found.push({ rule, first: index + 1, last: last + 1, used: false });
    });
    return { found, problems };
}

/** Returns what there is to say of a file. */
async function check(file) {
    const whole = readFileSync(file, "utf8");
    const { found, problems } = exceptions(file, whole);
    // The exceptions are no prose: a line of code is between their neighbours.
    const text = whole.replace(/^(\s*)\/\/ prose:.*$/gmu, "$1;");
    const { messages } = await new TextlintKernel().lintText(text, {
        ext: extname(file),
        filePath: file,
        plugins: [
            { pluginId: "markdown", plugin: markdown.default },
            { pluginId: "rust", plugin: rust },
        ],
        rules: [{ ruleId: "prose", rule: prose }],
    });
    for (const message of messages) {
        const line = message.loc.start.line;
        const [rule, what, instead, sentence] = JSON.parse(message.message);
        const exception = found.find((one) => one.rule === rule && one.first <= line && line <= one.last);
        if (exception) exception.used = true;
        else problems.push({ line, text: `${file}:${line}: [${rule}] "${what}": ${instead}\n    ${sentence}` });
    }
    for (const { rule, first, used } of found) {
        if (!used) problems.push({ line: first, text: `${file}:${first}: [exception] nothing here breaks the rule "${rule}"` });
    }
    return problems.sort((a, b) => a.line - b.line).map(({ text }) => text);
}

let total = 0;
const files = process.argv.slice(2);
for (const file of files) {
    if (![".md", ".rs"].includes(extname(file))) throw new Error(`${file}: neither Markdown nor Rust`);
    const problems = await check(file);
    total += problems.length;
    for (const problem of problems) console.log(problem);
}
console.error(`prose: ${total} findings in ${files.length} files`);
process.exitCode = total > 0 ? 1 : 0;
