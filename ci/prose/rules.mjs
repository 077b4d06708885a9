// The words that ci/prose.sh refuses, and what to write instead. docs/glossary.md has the terms.
// Each rule must be broken in fixtures/bad.md or fixtures/bad.rs.

/** The most words of a sentence. */
export const longest = 35;

const count = "(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|half|[\\d.,]*\\d)";
const unit =
    "(?:bits?|bytes?|words?|[kmgt]ib|cells?|counters?|locks?|lines?|pages?|entry|entries|loads?|stores?|reads?|writes?|" +
    "lookups?|calls?|cycles?|ns|nanoseconds?|µs|us|microseconds?|ms|milliseconds?|seconds?|minutes?|instructions?|" +
    "operations?|ids?|records?|slots?|chunks?|regions?|tests?|threads?|files?|cgroups?|steps?|thoughts?|million|billion|thousand)";
const many =
    "(?:bits|bytes|[kmgt]ib|ns|nanoseconds|µs|microseconds|ms|milliseconds|cycles|instructions|times|once|twice|million|billion)";
const each =
    "(?:slot|page|entry|record|region|chunk|cell|counter|id|owner|table|type|swapfile|file|map|cgroup|memcg|run|range|batch|" +
    "call|step|operation|lookup|load|store|migration|thread|core|cpu|processor|process|node|machine|word|line|row|letter|" +
    "sentence|item|element|pair|round|second|minute|hour|day|week|year)s?";
const people =
    "(?:people|persons?|readers?|users?|engineers?|authors?|maintainers?|reviewers?|operators?|contributors?|researchers?|" +
    "administrators?|those|anyone|everyone|developers?)";

/** Each rule: its name, what it finds, and what to write instead. */
export const words = [
    {
        name: "rate",
        // Not "makes a slot a page", nor "the 64 regions a counter has".
        find: RegExp(
            `(?<!\\b(?:make|give|call)s?\\s)\\b(?:${count}\\s+(?:[a-z-]+\\s+)?${unit}|${many})\\s+an?\\s+${each}\\b` +
                "(?!\\s+(?:has|had|is|was|holds|owns|may|can|must)\\b)",
            "giu",
        ),
        instead: 'rates take "per": "one bit per region", "2 bytes per slot"',
    },
    {
        name: "who",
        find: RegExp(`(?<!\\b${people},?\\s)\\b(?:who|whom|whoever)\\b|\\b(?:no|some|any|every)body\\b|\\b(?:someone|no one)\\b`, "giu"),
        instead: '"who" is for people: name the thread, the caller or the code ("a thread that ...", "no thread ...")',
    },
    {
        name: "hand-over",
        find: /\bhand(?:s|ed|ing)?[-\s]?overs?\b|\bhand(?:s|ed|ing)?\s+(?:it|them|records|its\s+records)\s+over\b/giu,
        instead: 'the term is "migration", "migrate"',
    },
    {
        name: "is-no",
        find: RegExp(
            "(?<!\\bthere\\s(?:(?:may|must|can|will|would|should|need)\\s)?|\\banswer\\s)\\b(?:is|are|was|were|be)\\s+no\\s+" +
                "(?!(?:more|less|fewer|better|worse|longer|shorter|larger|bigger|smaller|greater|higher|lower|faster|slower|" +
                "cheaper|wider|later|earlier|older|newer|different|matter)\\b)\\w+",
            "giu",
        ),
        instead: '"is not a", "are not", or say what it is',
    },
    {
        name: "beside",
        find: /\bbeside\b/giu,
        instead: '"while", "concurrently with", "compared with" or "next to"',
    },
    { name: "for-want-of", find: /\bfor\s+(?:the\s+)?want\s+of\b/giu, instead: '"because there is no ..."' },
    { name: "to-be-had", find: /\bto\s+be\s+had\b/giu, instead: '"available"' },
    { name: "up-to-then", find: /\bup\s+to\s+then\b/giu, instead: '"before" or "until" and the event' },
    { name: "as-none-of", find: /\bas\s+none\s+of\b/giu, instead: '"because no ..." or a sentence of its own' },
    { name: "in-turn", find: /\bin\s+turn\b/giu, instead: '"one after another", or leave it out' },
    {
        name: "of-it",
        find: /\b(?:there|here)of\b|\bof\s+it\s+all\b/giu,
        instead: 'name the thing: "of the table", "all of the map"',
    },
    {
        name: "what-counts",
        find: /\bwhat\s+(?:counts|matters|was\s+tried)\s+(?:is|was|are)\b/giu,
        instead: 'begin with the thing: "The ... decides"',
    },
    {
        name: "remains",
        find: RegExp(
            "\\b(?:no|the|its|their|of|few|many|some|whose|these|any|without|with|[\\d,]*\\d|hundred|thousand|million)\\s+remains\\b|" +
                "\\bremains\\s+(?:of|that|are|were|lie)\\b",
            "giu",
        ),
        instead: '"remaining records", "no records left"',
    },
    {
        name: "dead-cgroup",
        find: /\b(?:dead|dying|died)\s+(?:\w+\s+)?(?:cgroups?|memcgs?|ids?|owners?|groups?)\b|\b(?:cgroup|memcg)s?\s+(?:that\s+)?(?:dies?|died)\b/giu,
        instead: 'the states of a cgroup are "online", "offline" and "freed"',
    },
];
