// Verdicts: the sentences that comparisons begin with, in every room, and what they rest on.

import assert from "node:assert/strict";
import { cellsOf, exported, HOSTILE, mounting, named, records, serverOf, settled, shown, textOf, textsOf, told, type } from "./page.mjs";
import { AccuracyPage } from "../../app/web/js/accuracy/accuracy.js";
import { EvaluatePage } from "../../app/web/js/evaluate/evaluate.js";
import { FIGURES, gainCell } from "../../app/web/js/evaluate/figures.js";
import { plainText } from "../../app/web/js/shared/charts/plotly_chart.js";
import { apartGain, pairedGain, verdictOf } from "../../app/web/js/shared/verdict.js";
import { TrainPage } from "../../app/web/js/train/train.js";

told("gains over blocks of neighbouring tokens", (say) => {
  for (const gains of [[], [[0.1, null, 0.2]]]) say(verdictOf({ gains, samples: 9, enough: 1 }));
  const [own, other] = [0, 1].map((more) => Array.from({ length: 400 }, (_, at) => at % 20 + more));
  say(pairedGain(own, other));
  // Forty blocks whose means are 4.5 and 14.5 by turns: a standard error of 5 · √(1/39), of two texts √2 of it.
  const width = 2.09 * 5 * Math.sqrt(2 / 39);
  apartGain(own, other).forEach((one, at) => assert.ok(Math.abs(one - [1, 1 - width, 1 + width][at]) < 1e-9));
});

told("the verdict of an evaluation follows the baseline; nothing is said where a budget was not measured", async (say) => {
  const { evaluation, accuracy, forms } = records();
  const opened = async (mount, kind, view) => {
    const job = { id: "made", kind, title: "mine", status: "succeeded", status_label: "Finished" };
    const root = shown();
    mount(root, serverOf({ list_jobs: { jobs: [] }, lab_home: { policies: [], taken_names: [], newest_job: "made" }, list_corpora: { files: [] },
      poll_job: { job, cursor: 0 }, job_result: { view } }).server, forms[kind]);
    await settled();
    return root;
  };
  const root = await opened(mounting(EvaluatePage), "evaluate", evaluation);
  say(textOf(root.querySelector(".sol-finding")));
  root.querySelector("input[value=random_best]").click();
  say(textOf(root.querySelector(".sol-finding")), textsOf(root, ".sol-results th")[3]);
  type(root.querySelector("select[aria-label=Budget]"), "1");
  await settled();
  say([...root.querySelectorAll(".sol-plot")][3].layout.shapes.map((shape) => shape.y0));
  evaluation.rows.static[0].kl.gain = [null, null, null];
  say((await opened(mounting(EvaluatePage), "evaluate", evaluation)).querySelector(".sol-finding"));
  say(textOf(await opened(mounting(EvaluatePage), "evaluate", { ...evaluation, baselines: [], figures: {} })));
  const gains = [[1, 0.1, 2], [-1, -2, -0.1], [1, 0, 2], [-1, -2, 0], [null, null, null]].map((gain) => gainCell(gain, String));
  say(gains.map((cell) => cell.dataset.verdict));
  accuracy.tasks.forEach((task) => { task.questions = 16; });
  accuracy.tasks[0].rows[0] = { ...accuracy.tasks[0].rows[0], gain: null, nll_gain: undefined, methods: {} };
  const few = await opened(mounting(AccuracyPage), "benchmark", accuracy);
  say(textOf(few.querySelector(".sol-finding")), cellsOf(few.querySelector(".sol-task-table"))[0].slice(2));
  say(plainText("<b>%{x}&"));
  assert.ok(FIGURES.pareto[0](named(records().evaluation.figures.pareto, HOSTILE)).spec.traces().every((trace) => !trace.hovertemplate?.includes("<img")));
});

told("a training says how its last report stands, and that it is no measurement", async (say) => {
  const made = async (metrics) => {
    const job = { id: "made", kind: "train", title: "mine", status: "succeeded", status_label: "Finished", result: { name: HOSTILE } };
    const answers = { list_jobs: { jobs: [] }, lab_home: { policies: [], taken_names: [], newest_job: "made" }, list_corpora: { files: [] },
      poll_job: { job, cursor: 0, metrics: metrics.map((one) => ({ step: 1, metrics: one })), samples: null } };
    const root = shown();
    mounting(TrainPage)(root, serverOf(answers).server, records().forms.train);
    await settled();
    return [textOf(root.querySelector(".sol-made")), root.querySelectorAll(".sol-chart:not([hidden])").length];
  };
  say(await made([{ kl: 0.2, kl_static: 0.17 }]), await made([{ kl: 0.1, kl_static: 0.17 }]));
  assert.ok((await made([{ loss: 1 }]))[0].startsWith(`The policy ${HOSTILE} is stored. Evaluate it to learn whether it beats static.`));
});

// The same tokens so many times over.
const long = (rows, by) => Array.from({ length: by * rows.length }, (_, index) => ({ ...structuredClone(rows[index % rows.length]), index }));
const findings = (root) => [...root.querySelectorAll(".sol-finding")].map((one) => [one.dataset.verdict, textOf(one)]);

told("an inspection's verdicts: against static at its bytes, and at those of the row", async (say) => {
  const { inspection } = records();
  inspection.rows = long(inspection.rows, 29);
  inspection.rows.forEach(({ index, rows }) => [0, 0.02, -0.02, 0].forEach((lost, at) => { // of blocks of ten, emc gains by turns
    rows[at].nll = rows[at].kl = 2 + lost + (at === 3 ? 0.02 + (index % 20 < 10 ? 0.01 : -0.01) : 0);
    rows[at].cost = rows[1].cost;
  }));
  inspection.rows.forEach(({ rows }) => { rows[3].name = "emc"; });
  const root = await exported("inspection", inspection);
  say(findings(root).map(([kind, words]) => [kind, words.split(" (")[0]]));
  const cost = Object.fromEntries(Object.entries(inspection.rows[0].rows[1].cost).map(([part, one]) => [part, 203 * one]));
  inspection.summary.matched = [{ name: "policy:default", nll: inspection.rows.map(() => 1.5), cost }];
  say(findings(await exported("inspection", inspection))[0][1].split(" (")[0]);
  inspection.rows.forEach(({ rows }) => { rows[2].cost = { ...rows[2].cost, mlp_bytes: 0 }; });
  say(findings(await exported("inspection", inspection))[0][1]);
  inspection.run.config.schedules = inspection.run.config.schedules.slice(1);
  inspection.rows.forEach((token) => { token.rows = token.rows.filter((row) => row.name !== "static"); });
  delete inspection.summary.report;
  const other = await exported("inspection", inspection);
  say(findings(other)[0][1], other.querySelector("input[value=difference]").disabled);
});

// Both sides of a comparison; change(row): of B's tokens.
function pairOf(change) {
  const { run } = records();
  const views = [run, records().run].map((view, at) => ({ ...view, rows: long(view.rows, 17).map((row) => (at ? { ...row, ...change(row) } : row)) }));
  views[1].run.config.schedule = { kind: "static", budget: { bytes_share: 0.6, bit_width: 8 } };
  const stretches = [[true, 0, 3, 0, 3], [false, 3, 5, 3, 3], [true, 5, 204, 3, 204]];
  return { views, compared: { same_prompt: true, parted: 3, stretches, sides: [{ nll: [1, 2], problem: null }, { nll: null, problem: "Nothing <b>." }] } };
}

told("a comparison: both texts aligned, in numbers, and what may be said of them", async (say) => {
  const pair = pairOf(() => ({ kl_to_dense: 0.01, step_ms: 0.2 }));
  const root = await exported("comparison", pair);
  say(textsOf(root, ".sol-pair-head"), textOf(root.querySelector(".sol-pair-parted")));
  say(textsOf(root, ".sol-pair-block.is-apart").map((text) => text === "nothing here"));
  say(root.querySelectorAll(".is-parted").length);
  const rows = cellsOf(root.querySelector(".sol-pair-table"));
  say(rows[1], rows.map((row) => row[0].replace(/(measured|generated|spent|bytes|mean|of the|computed).*/, "")));
  say(rows[9].slice(1), rows[8].slice(1));
  say([...root.querySelectorAll(".sol-gain")].map((cell) => cell.dataset.verdict), findings(root)[0][1]);
  say(textOf(root.querySelector(".sol-chart-note")));
  const [first] = root.querySelectorAll("[data-side=b] .sol-token");
  first.focus();
  await settled();
  say(root.querySelectorAll(".is-marked").length, textOf(root.querySelector(".sol-card")));

  const worse = pairOf(() => ({ kl_to_dense: 0.5, side: [] }));
  Object.assign(worse.compared, { parted: null, stretches: null });
  const second = await exported("comparison", worse);
  say(findings(second)[0][1], textOf(second.querySelector(".sol-pair-parted")));
  say(cellsOf(second.querySelector(".sol-pair-table"))[1][0]);
  const dearer = pairOf((row) => ({ kl_to_dense: 0, cost: row.dense_cost }));
  dearer.compared.same_prompt = false;
  const third = await exported("comparison", dearer);
  say(findings(third)[0][1], textOf(third.querySelector(".sol-pair-parted")));
  say(cellsOf(third.querySelector(".sol-pair-table"))[6].slice(1));
});
