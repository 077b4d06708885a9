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
import { longest, words } from "./rules.mjs";
import rust, { comments } from "./rust.mjs";

const names = new Set(["long", ...words.map((rule) => rule.name)]);

const sentences = new Intl.Segmenter("en", { granularity: "sentence" });

/** Returns the words of a paragraph without its marks, and for each character where it is in the source. */
function plain(node, Syntax) {
    let text = "";
    const at = [];
    const add = (string, from) => {
        for (let index = 0; index < string.length; index++) at.push(from + index);
        // The segmenter takes the end of a line for that of a sentence.
        text += string.replace(/\s/gu, " ");
    };
    const walk = (child) => {
        // Code is one word, which no rule finds; it may begin a sentence, as a capital letter may.
        if (child.type === Syntax.Code) add("X", child.range[0] - node.range[0]);
        else if (child.type === Syntax.Str) add(child.raw, child.range[0] - node.range[0]);
        else if (child.type === Syntax.Break) add(" ", child.range[0] - node.range[0]);
        else {
            const start = text.length;
            child.children?.forEach(walk);
            // So may a link.
            if (child.type === Syntax.Link) text = text.slice(0, start) + text.charAt(start).toUpperCase() + text.slice(start + 1);
        }
    };
    walk(node);
    return { text, at };
}

/** The rule of textlint: each sentence has few enough words, and none of those that the rules refuse. */
function prose(context) {
    const { Syntax, RuleError, report, getSource, locator } = context;
    const check = (node) => {
        const { text, at } = plain(node, Syntax);
        const source = getSource(node);
        for (const { segment, index: start } of sentences.segment(text)) {
            const end = at[start + segment.length] ?? source.length;
            // The mark before a word is its own, not that of the sentence before.
            const mark = /[[*_`(]+$/u;
            const before = mark.exec(source.slice(0, at[start]))?.[0] ?? "";
            const sentence = before + source.slice(at[start], end).replace(mark, "").replace(/\s+/gu, " ").replace(/[ |]+$/u, "");
            const say = (rule, index, found, instead) =>
                report(
                    node,
                    new RuleError(JSON.stringify([rule, found, instead, sentence]), {
                        padding: locator.at(at[start + index]),
                    }),
                );
            const length = segment.split(/\s+/u).filter((word) => /[\p{L}\p{N}]/u.test(word)).length;
            // Headings and the cells of tables may be longer.
            if (node.type === Syntax.Paragraph && length > longest) {
                say("long", 0, `${length} words`, `at most ${longest} words: split the sentence, or make a list`);
            }
            for (const { name, find, instead } of words) {
                for (const match of segment.matchAll(find)) {
                    say(name, match.index, match[0].replace(/\s+/gu, " "), instead);
                }
            }
        }
    };
    return { [Syntax.Paragraph]: check, [Syntax.Header]: check, [Syntax.TableCell]: check };
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
