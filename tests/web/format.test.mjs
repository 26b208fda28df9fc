// Numbers, budgets, names and tokens as people read them; codecs of what Python writes.

import assert from "node:assert/strict";
import test from "node:test";
import { HOSTILE, read, records, textsOf } from "./page.mjs";
import { asIs, glossed, h, selectOf, setText } from "../../app/web/js/shared/dom.js";
import * as format from "../../app/web/js/shared/format.js";
import { outcomeOf } from "../../app/web/js/shared/runs/verdict.js";
import { bytesText, mlpFractions, readsOf, fractionsOf } from "../../app/web/js/shared/machine/reads.js";
import { quoted, spokenText, tokenNodes } from "../../app/web/js/shared/tokens/token_text.js";

test("numbers, budgets and names are written alike everywhere", () => {
  for (const [name, all] of Object.entries(read("cases.json"))) {
    for (const [given, wanted] of all) assert.deepEqual(format[name](...given), wanted, `${name}(${JSON.stringify(given)})`);
  }
  const rough = [[3, "5 s"], [49, "50 s"], [50, "1 min"], [5399, "90 min"], [5400, "1.5 h"], [36_000, "10 h"], [null, "–"]];
  for (const [seconds, wanted] of rough) assert.equal(format.roughly(seconds), wanted);
  assert.deepEqual(["2001-02-03T04:05:06Z", new Date().toISOString()].map((one) => format.whenText(one).length), [16, 5]);
  assert.deepEqual(format.formNumbers([0.5, 0.725, 8]), [50, 72.5, 8]);
  assert.deepEqual(format.actionOf([0.5, 0.7, 8]), { keep_fraction: 0.5, channel_keep_ratio: 0.7, bit_width: 8 });
  assert.deepEqual([format.AXES[0].of({ action: {} }), format.AXES[0].fraction(0.5), format.AXES[0].show(0.25)], [1, 0.5, "25 %"]);
});

test("a run's schedule, budget and mechanisms", () => {
  const of = (kind, budget) => format.scheduleOf({ config: { schedule: { kind, budget, policy: "p" } } });
  const budget = { keep_fraction: 0.4, channel_keep_ratio: 0.7, bit_width: 8 };
  assert.deepEqual(of("static", budget), { kind: "static", policy: "p", asked: [0.4, 0.7, 8], share: null });
  assert.deepEqual(of("dense", { ...budget, bytes_share: 0.6 }), { kind: "dense", policy: "p", asked: [1, 1, 16], share: null });
  assert.deepEqual(of("emc", { bytes_share: 0.6, bit_width: 8 }), { kind: "emc", policy: "p", asked: [NaN, NaN, 8], share: 0.6 });
  assert.deepEqual(format.scheduleOf(null), { kind: "static", policy: null, asked: [NaN, NaN, NaN], share: null });
  const grid = { page_scorer: "int4", page_choice: "group", mlp_pruning: "both" };
  assert.deepEqual([{}, grid, { ...grid, page_budget: "need" }, { page_choice: "group" }]
    .map((one) => format.mechanismsOf({ config: { grid: one } })),
  ["Paper: page bounds", "Former: so many pages per KV group", "Default: 4-bit keys", "Own: quest, group, input"]);
});

test("what a token's text hides is shown and spoken", () => {
  const seen = (text) => tokenNodes(text).map((node) => (node.className ?? "text") + ":" + node.textContent);
  assert.deepEqual(seen(" a\n"), ["sol-space:\u00a0", "text:a", "sol-glyph:↵"]);
  assert.deepEqual(seen("\t\r\x01\x7f\u00a0\u202e"),
    ["⇥", "␍", "␁", "␡", "⍽", "U+202E"].map((glyph) => `sol-glyph:${glyph}`));
  assert.deepEqual(seen(""), ["sol-part:◌"]);
  assert.deepEqual(seen("👩\u200d👩"), ["text:👩\u200d👩"], "joiners do their work inside");
  assert.deepEqual(seen("\u200da"), ["sol-glyph:U+200D", "text:a"]);
  assert.deepEqual(["", " ", "\n", "a\tb", "\u202e"].map(spokenText),
    ["part of a character", "space", " line break ", "a tab b", " U+202E "]);
  assert.equal(quoted(" the"), "“the”");
  assert.equal(h("p", {}, tokenNodes(HOSTILE)).querySelector("img"), null);
  assert.equal(tokenNodes("x".repeat(100_000)).length, 1);
});

test("elements are built of texts; terms are explained where they are known", () => {
  const built = h("p", { id: "a", hidden: true, title: null, "--v": 0.5, class: false }, HOSTILE, [null, [false, 0]], undefined);
  assert.equal(built.textContent, `${HOSTILE}0`);
  assert.deepEqual([built.id, built.hidden, built.hasAttribute("title"), built.hasAttribute("class"),
    built.style.getPropertyValue("--v")], ["a", true, false, false, "0.5"]);
  assert.deepEqual(textsOf(selectOf([["b", HOSTILE]]), "option"), [HOSTILE]);
  const text = h("p", {}, glossed("See [[kl|KL]], [[nothing known]] and [[dense]]."));
  assert.equal(text.textContent, "See KL, nothing known and dense.");
  assert.deepEqual([...text.querySelectorAll("button")].map((one) => one.dataset.term), ["kl", "dense"]);
  assert.equal(h("p", {}, glossed("[[kl|KL]]", true)).querySelector("button"), null);
});

test("reads and the MLP's split are as Python has them", () => {
  for (const [page_reads, layers, levels] of records().reads) {
    const found = readsOf({ page_reads });
    assert.deepEqual([found.layers, [...found.levels]], [layers, levels]);
    for (const change of [{ cells: 0 }, { cells: 65 }, { cells: 1e9 }, { levels: "?" }, { levels: "" }, { pages: -1 },
      { levels: "A".repeat(1e6) }, { levels: "AAAA" }]) assert.equal(readsOf({ page_reads: { ...page_reads, ...change } }), null);
  }
  assert.equal(readsOf({}), null);
  for (const [compared, others, kl, parted, head] of records().outcomes) {
    assert.equal(outcomeOf({ compared, others, kl, parted: parted ?? -1 }, false).kind, head);
  }
  for (const [grid, ratio, shares] of records().mlp) {
    mlpFractions(grid, ratio).forEach((share, at) => assert.ok(Math.abs(share - shares[at]) < 1e-5, `${ratio}: ${share}`));
  }
  const shares = fractionsOf({ page_reads: { pages: 3, share: 0.5, by_page: "A/f" } });
  assert.deepEqual([0, 1, 2, 3].map(shares), [0, 1, 31 / 63, 0]);
  assert.equal(fractionsOf({ page_reads: { pages: 3, share: 1, by_page: "" } })(2), 1);
  assert.equal(fractionsOf({ page_reads: { pages: 3, share: 0.5 } }), null);
  assert.deepEqual(bytesText({ cost: { bytes_read: 5e5 }, dense_cost: { bytes_read: 2e6 } }), ["500 kB", "of 2.00 MB read"]);
});

test("a number and its unit stay on one line; code and other people's texts stay as they are", () => {
  const line = h("p", {}, "60 % in 5 min, 3 pages, ", h("code", {}, "--limit 5 min"), asIs(" 5 %"));
  assert.equal(line.textContent, "60\u00a0% in 5\u00a0min, 3 pages, --limit 5 min 5 %");
  setText(line, "0.063 nats at 8 bits");
  assert.equal(line.textContent, "0.063\u00a0nats at 8\u00a0bits");
  const code = h("pre");
  setText(code, "5 s");
  assert.equal(code.textContent, "5 s");
});
