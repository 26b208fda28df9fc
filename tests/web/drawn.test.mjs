// Every record drawn whole: what people see and hear of it, as it was when somebody last read it (drawn/*.txt). Where a
// change is meant, `DRAW=1 npm test` in app/web writes it anew: read the difference as carefully as the code's.

import { drawn, exported, mounting, records, serverOf, settled, shown, stageOf } from "./page.mjs";
import { AccuracyPage } from "../../app/web/js/accuracy/accuracy.js";
import { EvaluatePage } from "../../app/web/js/evaluate/evaluate.js";
import { partialTable } from "../../app/web/js/evaluate/evaluate.js";
import { Controls } from "../../app/web/js/explore/controls.js";
import { mount as mountHistory } from "../../app/web/js/history/history.js";
import { InspectForm } from "../../app/web/js/inspect/inspect_form.js";
import { PoliciesPage } from "../../app/web/js/policies/policies.js";
import { setAddress } from "../../app/web/js/shared/tabs.js";
import { h } from "../../app/web/js/shared/dom.js";
import { LensPanel } from "../../app/web/js/shared/lens/lens.js";
import { cardParts } from "../../app/web/js/shared/tokens/card.js";
import { TrainPage } from "../../app/web/js/train/train.js";

const MADE = "2020-01-02T03:04:05Z";
const JOB = { id: "made", title: "mine", status: "succeeded", status_label: "Finished", created_at: MADE, started_at: MADE, model: "/m/x.gguf" };
const HOME = { policies: [{ name: "mine", model: "m", created: MADE }, { name: "other", shipped: true }], jobs_allowed: true, suggested_name: "new",
  taken_names: ["old"], newest_job: "made" };

// A page of the Lab with the job on show, and what Python answers of it.
async function lab(mount, kind, answers, job = {}) {
  for (const name of ["train", "evaluation", "accuracy", "policy"]) setAddress({ [name]: null, tab: "lab" });
  const root = shown();
  mount(root, serverOf({ lab_home: HOME, list_jobs: { jobs: [], more: false }, list_corpora: { files: [] },
    poll_job: { job: { ...JOB, kind, ...job }, cursor: 0, metrics: [], samples: null }, ...answers }).server, records().forms[kind]);
  await settled();
  return root;
}

async function page(mount, answers) {
  setAddress({ tab: "policies", policy: null });
  const root = shown();
  mount(root, serverOf(answers).server);
  return root;
}

async function staged({ run }) {
  const stage = await stageOf(run, { pick: () => {} });
  stage.view.elements[3].focus();
  stage.select([1, 2]);
  await settled();
  return document.querySelector(".sol-page");
}

async function lens({ run, look }) {
  const panel = new LensPanel(async () => look, { close: () => {}, fork: () => {} });
  panel.open(run.run, false, run.rows, 2);
  return shown(panel.element);
}

const pair = ({ run }, other) => ({ views: [run, other.run], compared: { same_prompt: true, parted: 3, sides: [{ nll: [1, 2], problem: null },
  { nll: null, problem: "Nothing." }], stretches: [[true, 0, 3, 0, 3], [false, 3, 5, 3, 3], [true, 5, 12, 3, 10], [false, 12, 12, 10, 12]] } });

const policy = ({ evaluation }) => ({ name: evaluation.about.policy, model: "/m/x.gguf", created: MADE, added: null, uses: "nothing", fingerprint: "0123456789",
  quant_site: "mlp_input", page_size: 8, parameters: 12_345, network: "factored", is_shipped: false, training_job: "t",
  card: `---\nlicense: mit\ntags: [${evaluation.about.corpus}]\n---\n# mine\n${evaluation.about.corpus} [go](javascript:alert(3)) [there](https://a.b/c) **bold** *so*
\`x<b>\` arXiv:2605.10875\n\n- one\n  more\n* two\n\n\`\`\`json\n${"x\n".repeat(17)}\`\`\`\n## after`,
  measured: { kl: 0.15, kl_static: 0.2, nll: 3.3, nll_static: 3.35, nll_dense: 3.2, gap_keep: -0.012 },
  verdict: { kind: "good", head: "Closer", rest: "." },
  evaluations: [{ id: "e", title: "x", verdict: { kind: "good", head: "Closer at 4 of 9 budgets", rest: "." }, corpus: "builtin", tokens: 2048, created_at: MADE },
    { id: "f", title: evaluation.about.policy, verdict: null, created_at: MADE }] });

const RUN = { id: "r", kind: "generation", title: "A", status: "finished", status_label: "Finished", schedule_label: "Static", budget: "50 %", tokens: 1,
  created_at: MADE, model: "m", can_delete: true, parent: "p", variant: "Another token 4" };

/** Drawings by their names, each of all records. @type {Record<string, (all: any) => Promise<Element>>} */
const DRAWINGS = {
  run: staged,
  cards: async ({ run }) => {
    const old = { ...run.rows[4], policy: null, parts_ms: null, side: [], kl_to_dense: null, surprisal: null, entropy: null, token_id: 7, text: "" };
    return shown(...[run.rows[3], old].map((row) => h("div", {}, cardParts(row))));
  },
  exported_run: ({ run }) => exported("run", run),
  inspection: ({ inspection }) => exported("inspection", inspection),
  comparison: (all) => exported("comparison", pair(all, records())),
  lens,
  evaluation: async ({ evaluation }) => lab(mounting(EvaluatePage), "evaluate", { job_result: { view: evaluation } }),
  evaluation_nll: async ({ evaluation }) => {
    Object.assign(evaluation.rows.static[0], { asked_share: 0.655, shares: [0.64, 0.65] });
    Object.assign(evaluation.rows.static[0].nll, { gain: [null, null, null], policy: null });
    const root = await lab(mounting(EvaluatePage), "evaluate", { job_result: { view: { ...evaluation, figures: {} } } });
    await settled();
    root.querySelector(".sol-table-tools input[value=nll]").click();
    root.append(partialTable({ texts: 1, budgets: [{}, { requested: { share: 0.6 }, methods: { policy: { nll: 3 }, random_best: {} } }] }));
    return root;
  },
  accuracy: async ({ accuracy }) => lab(mounting(AccuracyPage), "benchmark", { job_result: { view: accuracy } }),
  training: async ({ reports, sample }) => lab(mounting(TrainPage), "train",
    { poll_job: { job: { ...JOB, kind: "train", result: { policy: "mine" } }, cursor: 1, metrics: reports, samples: [sample] } }),
  failed: async ({ run }) => lab(mounting(TrainPage), "train", {}, { title: run.run.title, status: "failed", status_label: "Failed", error: `${run.run.title}\nsecond`,
    advice: "Resume.", log_file: "/a.log", can_resume: true }),
  policies: async (all) => page(mounting(PoliciesPage), { policy_details: policy(all),
    all_policies: { policies: [policy(all)], damaged: [{ name: "bad", problem: all.run.run.title }], refusal: null } }),
  history: async ({ run }) => page(mountHistory, { run_glance: { strip: [0.5, 0.75, 1], share: 0.75, answer: run.run.title, verdict: { kind: "bad", head: "Broken", rest: ": so." } }, list_runs: { next: null, runs: [RUN, { ...RUN, title: run.run.title, kind: "inspection", parent: null, variant: "" },
    { ...RUN, status: "damaged", can_delete: false }, { ...RUN, status: "running", tokens: 0 }] } }),
  forms: async ({ explore }) => shown(
    new Controls(explore, { policies: async () => [], estimate: async () => null }).element,
    new InspectForm({ ...explore, maxTokens: 99, defaults: { ...explore.defaults, schedules: ["static", "policy:mine", ""] } },
      { estimate: async () => null }).element),
};

for (const [name, draw] of Object.entries(DRAWINGS)) drawn(name, draw);
