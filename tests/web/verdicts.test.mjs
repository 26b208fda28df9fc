// Verdicts: the sentences that comparisons begin with, in every room, and what they rest on.

import assert from "node:assert/strict";
import { cellsOf, exported, HOSTILE, mounting, named, records, serverOf, settled, shown, textOf, textsOf, told } from "./page.mjs";
import { AccuracyPage } from "../../app/web/js/accuracy/accuracy.js";
import { EvaluatePage } from "../../app/web/js/evaluate/evaluate.js";
import { FIGURES, gainCell } from "../../app/web/js/evaluate/evaluate.js";
import { plainText } from "../../app/web/js/shared/charts/plotly_chart.js";
import { TrainPage } from "../../app/web/js/train/train.js";

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
  evaluation.verdicts.static.kl = null;
  say((await opened(mounting(EvaluatePage), "evaluate", evaluation)).querySelector(".sol-finding"));
  say(textOf(await opened(mounting(EvaluatePage), "evaluate", { ...evaluation, baselines: [], figures: {} })));
  say([[[-1, -2, -0.1], "open"], [[null, null, null], "open"]].map(([gain, kind]) => gainCell(gain, kind, String))
    .map((cell) => [cell.dataset.verdict, textOf(cell)]));
  accuracy.verdict = { kind: "open", head: "Too few to tell", rest: ": 48 questions." };
  accuracy.tasks[0].rows[0] = { ...accuracy.tasks[0].rows[0], gain: null, nll_gain: undefined, kinds: {}, methods: {} };
  const few = await opened(mounting(AccuracyPage), "benchmark", accuracy);
  say(textOf(few.querySelector(".sol-finding")), cellsOf(few.querySelector(".sol-task-table"))[0].slice(2));
  say(plainText("<b>%{x}&"));
  assert.ok(FIGURES.pareto(named(records().evaluation.figures.pareto, HOSTILE)).spec.traces().every((trace) => !trace.hovertemplate?.includes("<img")));
});

told("a training says what Python makes of its last report", async (say) => {
  const made = async (verdict) => {
    const job = { id: "made", kind: "train", title: "mine", status: "succeeded", status_label: "Finished", result: { name: HOSTILE }, verdict };
    const answers = { list_jobs: { jobs: [] }, lab_home: { policies: [], taken_names: [], newest_job: "made" }, list_corpora: { files: [] },
      poll_job: { job, cursor: 0, metrics: [{ step: 1, metrics: { kl: 0.2 } }], samples: null } };
    const root = shown();
    mounting(TrainPage)(root, serverOf(answers).server, records().forms.train);
    await settled();
    return root;
  };
  const root = await made({ kind: "bad", head: "mine is further", rest: ", by 0.03." });
  say(findings(root), root.querySelectorAll(".sol-chart:not([hidden])").length);
  assert.ok(textOf(root.querySelector(".sol-made")).startsWith(`The policy ${HOSTILE} is stored.`));
  say(findings(await made(null)));
});

// The same tokens so many times over.
const long = (rows, by) => Array.from({ length: by * rows.length }, (_, index) => ({ ...structuredClone(rows[index % rows.length]), index }));
const findings = (root) => [...root.querySelectorAll(".sol-finding")].map((one) => [one.dataset.verdict, textOf(one)]);

told("an inspection's verdicts, and the row that each is compared with", async (say) => {
  const { inspection } = records();
  inspection.rows.forEach(({ rows }) => { rows[3].name = "emc"; });
  inspection.summary.verdicts = [{ kind: "bad", head: "Policy default is further from the full model than static", rest: ", by 0.1." }];
  const cost = Object.fromEntries(Object.entries(inspection.rows[0].rows[1].cost).map(([part, one]) => [part, 7 * one]));
  inspection.summary.matched = [{ name: "policy:default", nll: inspection.rows.map(() => 1.5), kl: inspection.rows.map(() => 0.25), cost }];
  const root = await exported("inspection", inspection);
  say(findings(root), cellsOf(root.querySelector(".sol-table")));
  inspection.run.config.schedules = inspection.run.config.schedules.slice(1);
  inspection.rows.forEach((token) => { token.rows = token.rows.filter((row) => row.name !== "static"); });
  delete inspection.summary.report;
  delete inspection.summary.verdicts; // of a former release
  const other = await exported("inspection", inspection);
  say(findings(other), other.querySelector("input[value=difference]").disabled);
});

told("a policy that left every step to static is one row with it", async (say) => {
  const { inspection } = records();
  inspection.rows.forEach(({ rows }) => rows.slice(1, 3).forEach((row) => Object.assign(row, { policy: null, nll: rows[1].nll })));
  const root = await exported("inspection", inspection);
  say(textsOf(root, ".sol-pane-choice .sol-pill"), cellsOf(root.querySelector(".sol-table")));
});

// Both sides of a comparison; change(row): of B's tokens.
function pairOf(change) {
  const { run } = records();
  const views = [run, records().run].map((view, at) => ({ ...view, rows: long(view.rows, 17).map((row) => (at ? { ...row, ...change(row) } : row)) }));
  views[1].run.config.schedule = { kind: "static", budget: { bytes_share: 0.6, bit_width: 8 } };
  const stretches = [[true, 0, 3, 0, 3], [false, 3, 5, 3, 3], [true, 5, 204, 3, 204]];
  const verdict = { kind: "good", head: "B is closer", rest: "." };
  return { views, compared: { verdict, same_prompt: true, parted: 3, stretches, sides: [{ nll: [1, 2], problem: null }, { nll: null, problem: "Nothing <b>." }] } };
}

told("a comparison: both texts aligned, in numbers, and what may be said of them", async (say) => {
  const pair = pairOf(() => ({ kl_to_dense: 0.01, step_ms: 0.2 }));
  const root = await exported("comparison", pair);
  say(textsOf(root, ".sol-pair-head"), textOf(root.querySelector(".sol-findings")));
  say(textsOf(root, ".sol-pair-block.is-apart").map((text) => text === "nothing here"));
  say(root.querySelectorAll(".is-parted").length);
  const rows = cellsOf(root.querySelector(".sol-pair-table"));
  say(rows[1], rows.map((row) => row[0].replace(/(measured|generated|spent|bytes|mean|of the|computed).*/, "")));
  say(rows[7].slice(1), rows[6].slice(1));
  say([...root.querySelectorAll(".sol-gain")].map((cell) => cell.dataset.verdict), findings(root)[0][1]);
  say(textOf(root.querySelector(".sol-chart-note")));
  const [first] = root.querySelectorAll("[data-side=b] .sol-token");
  first.focus();
  await settled();
  say(root.querySelectorAll(".is-marked").length, textOf(root.querySelector(".sol-card")));

  const worse = pairOf(() => ({ kl_to_dense: 0.5, side: [] }));
  Object.assign(worse.compared, { parted: null, stretches: null });
  const second = await exported("comparison", worse);
  say(textOf(second.querySelector(".sol-findings")));
  say(cellsOf(second.querySelector(".sol-pair-table"))[1]);
  const dearer = pairOf((row) => ({ kl_to_dense: 0, cost: row.dense_cost }));
  dearer.compared.same_prompt = false;
  const third = await exported("comparison", dearer);
  say(textOf(third.querySelector(".sol-findings")));
  say(cellsOf(third.querySelector(".sol-pair-table"))[5].slice(1));
});
