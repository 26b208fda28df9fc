// The state of a run and, in one sentence, its result; the numbers behind it in a panel of their own.

import { attempt } from "../api.js";
import { chip, glossed, h, setChildren, setText, show, smallButton } from "../dom.js";
import {
  AXES, count, duration, fixed, isNumber, mean, MISSING, nats, percent, probability, probabilityOf,
  scheduleName, scheduleOf, ZONE_TOKENS,
} from "../format.js";
import { keptOpen } from "../memory.js";
import { dataTable, fillTable, tile } from "../page_parts.js";
import { answerText, quoted } from "../tokens/token_text.js";
import { StatusLine } from "./status_line.js";
import { outcomeOf, partingWords, SAME, tallyOf, ZONES } from "./verdict.js";

export const PARTS = [
  { key: "attention", name: "Attention", bytes: "attention_bytes",
    title: "Computed as if heads that share keys chose the same pages; where they differ, more is read" },
  { key: "mlp", name: "MLP", bytes: "mlp_bytes" },
  { key: "head", name: "Head", bytes: "head_bytes" },
  { key: "policy", name: "Schedule", bytes: "policy_bytes",
    title: "Choosing what each step may spend, by a policy or by any other schedule" },
  { key: "rest", name: "Rest", title: "Embedding, sampling, comparing rows" },
];

const LEAST_GAIN = 0.05; // of the full model's speed, as predict_step's words have it

const milliseconds = (ms) => (isNumber(ms) ? `${ms.toFixed(ms < 10 ? 2 : 1)} ms` : MISSING);

class PartTimes {
  said = h("p", { class: "sol-hint" });
  table = dataTable("Measured time by part",
    ["Part", "Measured per token", "Of the step", "Computed: bytes"], []);
  element = h("div", {}, this.table, this.said);

  // others: rows beside the run's own in each step.
  update(rows, summary = null, others = 0) {
    const times = PARTS.map(({ key }) => mean(rows.map((row) => row.parts_ms?.[key])));
    const whole = times.reduce((sum, ms) => sum + ms, 0);
    const isKnown = isNumber(whole);
    setText(this.said, rows.length && !isKnown ? "Times were not recorded when this run was saved."
      : isKnown && others ? `Each step also ran the full model${others > 1 ? " and static" : ""}.` : "");
    fillTable(this.table, PARTS.map((part, at) => [h("span", { title: part.title }, part.name),
      milliseconds(times[at]), percent(times[at] / whole), isKnown ? savedText(part, summary) : MISSING]));
  }
}

// The machine of a run or an inspection; "" while it is unknown, as in older records.
export const machineWords = (made) => (made
  ? `Made on ${made.processor}, ${made.dtype}, ${count(made.threads, "thread")}.` : "");

// Shares of the part's own bytes; of the policy's, which a dense step has not, of the whole step's.
function savedText(part, summary) {
  if (!part.bytes) return "not counted";
  if (!summary) return "at the end";
  const { cost, dense_cost: dense } = summary;
  const whole = part.key === "policy" ? dense.bytes_read : dense[part.bytes];
  if (!whole) return MISSING;
  const share = (dense[part.bytes] - cost[part.bytes]) / whole;
  if (Math.abs(share) < 0.0005) return "0 % saved";
  return `${percent(Math.abs(share), 1)} ${share < 0 ? "added" : "saved"}`;
}

const REASONS = {
  stop_string: "met a stop string",
  context_full: "the model's context is full",
  stopped: "stopped by you",
  time_limit: "the GPU time for one run is used up: the text ends here",
};

// The tiles; of: their values, of a run that has tokens.
const TILES = {
  tokens: { name: "[[token|Tokens]]", note: "generated",
    of: (tally, rows) => rows.length.toLocaleString("en") },
  speed: { name: "Tokens/s", note: "measured", of: (tally, rows, summary) =>
    fixed(summary?.tokens_per_s ?? 1000 / (tally.ms / rows.length), 1) },
  step: { name: "Per token", note: "measured", of: (tally, rows) => duration(tally.ms / rows.length) },
  flops: { name: "[[flop|FLOPs]] saved", note: "computed", of: (tally) => percent(1 - tally.flops, 1) },
  bytes: { name: "Bytes saved", note: "computed", of: (tally) => percent(1 - tally.bytes, 1) },
};

export class Status extends StatusLine {
  // on: a StatusLine's, and where a run that was cut off can go on: goOn(), and to how many tokens at most
  constructor(on) {
    super(on);
    this.most = on.most;
    this.goOn = smallButton("Continue", on.goOn, { hidden: true,
      title: "The same prompt and settings; after a cut with twice the tokens" });
    this.detail.after(this.goOn);
    this.tiles = Object.fromEntries(Object.entries(TILES).map(([key, { name, note }]) =>
      [key, tile(name, note)]));
    this.spend = AXES.map((axis) => h("span", { class: "sol-spend-value" }, MISSING));
    this.parts = new PartTimes();
    this.machine = h("p", { class: "sol-muted" });
    this.outcome = h("b", { class: "sol-outcome-name" });
    this.sentence = h("span", {});
    this.spent = h("p", { class: "sol-muted" });
    this.gain = h("span", {});
    this.full = chip("Ask the full model", () => this.showFull(), { hidden: true });
    this.fullAnswer = h("p", { class: "sol-page-answer", dir: "auto", hidden: true });
    this.verdict = h("div", { class: "sol-outcome-line", "aria-label": "Verdict", hidden: true },
      h("p", { class: "sol-sentence" }, this.outcome, this.sentence), this.full, this.fullAnswer, this.spent);
    this.element = h("section", { class: "sol-panel sol-status", "aria-label": "Status" }, this.head);
    this.numbers = h("details", { class: "sol-panel sol-numbers", ...keptOpen("numbers") },
      h("summary", {}, "Numbers and charts"),
      h("dl", { class: "sol-tiles" }, Object.values(this.tiles).map((one) => one.element),
        h("div", { class: "sol-tile is-spend" }, h("dt", {}, glossed("[[spend|Spent]] / [[budget]]")),
          h("dd", {}, AXES.map((axis, at) => h("span", { class: "sol-spend", "data-axis": axis.key },
            h("i", { "aria-hidden": "true" }), h("span", {}, axis.name),
            this.spend[at]))))),
      this.parts.element, this.machine);
    this.clear();
  }

  clear() {
    const places = [...Object.values(this.tiles).map((one) => one.value), ...this.spend];
    places.forEach((place) => setText(place, MISSING));
    this.parts.update([]);
    setText(this.machine, "");
    [this.verdict, this.full, this.fullAnswer, this.goOn].forEach((part) => show(part, false));
    this.shown = null;
    this.setEstimate({});
  }

  // times: of the full model's speed; where that is unknown, the measured speed is shown.
  /** @param {Partial<Estimate>} estimate what the dial said of the run */
  setEstimate({ times, zone }) {
    this.times = times;
    this.zone = zone;
    if (isNumber(times)) setText(this.gain, gainWords(times));
    if (this.shown) this.showRun(...this.shown);
  }

  // answer(write): the full model's to the same prompt, its tokens as they come.
  offerFull(answer) {
    this.answerFully = answer;
    show(this.full, Boolean(this.outcome.dataset.kind) && this.outcome.dataset.kind !== SAME);
  }

  async showFull() {
    const place = h("p", { class: "sol-page-answer is-live", dir: "auto" }, h("b", {}, "Full model: "));
    this.fullAnswer.replaceWith(place); // a new one: tokens may still come for the last
    this.fullAnswer = place;
    show(this.full, false);
    await attempt(() => this.answerFully((rows) => place.append(answerText(rows))),
      (words) => place.append(words));
    place.classList.remove("is-live");
  }

  showRun(rows, view, run, model) {
    this.shown = [rows, view, run, model];
    const { asked, share } = scheduleOf(run);
    const words = [namedAs(run, rows, view.summary?.left_at), REASONS[view.summary?.reason]]
      .filter(Boolean).join(" · ");
    const isCut = view.status === "finished" && view.summary?.reason === "length";
    this.update(isCut ? { ...view, status: `Cut off at ${count(rows.length, "token")}` } : view, model, words,
      rows.length / run.config.max_new_tokens);
    const isHalf = isCut || view.status === "interrupted";
    show(this.goOn, isHalf && !run.parent && run.settings?.max_new_tokens < this.most);
    setText(this.goOn, isCut ? "Continue" : "Run again");
    if (rows.length === 0) return;
    const tally = tallyOf(rows);
    const speed = TILES.speed.of(tally, rows, view.summary);
    for (const [key, { of }] of Object.entries(TILES)) {
      setText(this.tiles[key].value, of(tally, rows, view.summary));
    }
    setText(this.tiles.tokens.note, view.live ? `of at most ${run.config.max_new_tokens}` : "generated");
    AXES.forEach((axis, at) => {
      const digits = fixed(axis.unit === "bit" ? tally.spend[at] : 100 * tally.spend[at], 1);
      setText(this.spend[at], `${digits} / ${Number.isNaN(asked[at]) ? MISSING : axis.show(asked[at])}`);
    });
    this.parts.update(rows, view.summary, run.config.side_rows?.length);
    setText(this.machine, [promptWords(view.prefill), machineWords(view.summary?.made_on)].join(" "));
    const isDense = scheduleOf(run).kind === "dense";
    const { kind, basis } = outcomeOf(tally, isDense);
    const isBroken = kind === "Broken";
    if (isBroken && view.status === "finished") this.pill.dataset.kind = "bad";
    const verdict = kind && `${kind}${view.status === "finished" ? "" : " so far"}.`;
    if (verdict !== this.outcome.textContent) setChildren(this.outcome, glossed(`[[verdict|${verdict}]]`));
    this.outcome.dataset.kind = kind;
    show(this.outcome, Boolean(kind));
    setText(this.sentence, putWords(rows, run) + basis + (tally.others ? partingWords(rows) : ""));
    if (!isNumber(this.times) || isDense) {
      setText(this.gain, `${speed} tokens/s${tally.compared ? " with the check" : ""}`);
    }
    const isOff = share && percent(share) !== percent(tally.bytes);
    const found = !view.live && kind && ZONES[outcomeOf(tallyOf(rows.slice(0, ZONE_TOKENS)), isDense).kind];
    const forecast = found && this.zone && found !== this.zone && ` · forecast was: ${this.zone}`;
    setChildren(this.spent, isDense ? "" : [glossed("[[compute|Compute]]: "), percent(tally.bytes),
      ` of the full model${isOff ? ` (target: ${percent(share)})` : ""} · `],
      this.gain, klWords(tally), forecast);
    show(this.verdict, true);
  }
}

function promptWords(prefill) {
  if (!prefill) return "";
  const { prompt_tokens: tokens, reused_tokens: kept, elapsed_ms: ms } = prefill;
  return `${count(tokens, "prompt token")} ${kept ? `(${kept.toLocaleString("en")} kept from before) ` : ""}`
    + `read in ${duration(ms)}.`;
}

// context: as a FinishEvent's left_at, where a policy left its steps to the static mix.
const namedAs = (run, rows, context) => scheduleName(run, rows)
  + (isNumber(context) ? ", as the policy has no measured advantage" : "");

// The token that somebody put in, from which on a fork is judged.
function putWords(rows, { config: { given = [] } }) {
  const put = rows[given.length - 1];
  return put
    ? ` ${quoted(put.text)} was put in by hand (${probability(probabilityOf(put.surprisal))} probable).` : "";
}

const gainWords = (times) => `${Math.abs(times - 1) < LEAST_GAIN ? "no faster"
  : `${fixed(times, 1)} times its speed`} here (estimated)`;

const klWords = ({ kl, klStatic }) => [isNumber(kl) && [" · ", glossed("[[kl|KL]] "), `${nats(kl)} nats`],
  isNumber(klStatic) && `, static ${nats(klStatic)}`];
