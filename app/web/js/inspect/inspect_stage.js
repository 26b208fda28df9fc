// An inspection on show: the schedules compared in numbers, tokens, charts, difficulty report.

import { ChartedStage } from "../shared/charts/charts.js";
import { h, setChildren, setText, show, showText } from "../shared/dom.js";
import { AXES, count, fixed, mean, nats, percent, signed } from "../shared/format.js";
import { folded, pillsField } from "../shared/forms/form_parts.js";
import { dataTable, fillTable, leadOf } from "../shared/page_parts.js";
import { machineWords } from "../shared/runs/status.js";
import { VerdictLine } from "../shared/runs/verdict.js";
import { leastCertain } from "../shared/tokens/token_stage.js";
import { spokenText, tokenNodes } from "../shared/tokens/token_text.js";
import { colourAxes, shareOfBytes, stretched } from "../shared/tokens/token_view.js";
import {
  AXIS_TERMS, bytesOf, differenceAxis, PAINTED, rowName, rowNames, rowOf, runOfRow, STATIC, totalCost,
} from "./inspect_rows.js";

// The difficulty report: spend by kind of token, what it goes along with, tokens that stand out.
class Difficulty {
  constructor(go) {
    this.go = go;
    this.place = h("div", { class: "sol-difficulty-parts" });
    this.head = h("span", { class: "sol-muted" });
    const title = "Difficulty report";
    this.element = h("section", { class: "sol-panel sol-difficulty", hidden: true, "aria-label": title },
      h("header", {}, h("h2", {}, title), this.head), this.place);
  }

  // report: as Python gives it at the end, or null; at: the row on show, 0 for dense.
  draw(report, names = [], at = 0) {
    show(this.element, Boolean(report));
    if (!report) return;
    const row = report.rows[at - 1];
    setText(this.head, row ? `Under ${rowName(names[at])}, measured. Earlier savings add to later losses.`
      : "The full model spends the same everywhere. Choose another schedule above.");
    setChildren(this.place,
      row && this.kinds(row), row && this.correlation(row),
      this.list("Least confident", "The full model gave these tokens the least probability.",
        report.least_confident, (one) => `surprisal ${fixed(one.nll, 1)} nats`,
        (one) => `entropy ${fixed(one.entropy, 1)} nats`),
      row && this.list("Under-served", "Lost more than rounding noise against the full model.",
        row.under_served, (one) => `lost ${fixed(one.loss, 2)} nats`,
        (one) => `mean of the axes ${percent(one.spend)}, KL ${nats(one.kl)}`,
        "No loss beyond rounding noise."),
      row && this.list("Over-served", "Another schedule spent less here and stayed with the full model.",
        row.over_served, (one) => `${percent(one.spend)} against ${percent(one.cheaper_spend)}`,
        (one) => `${rowName(one.cheaper)}, KL ${nats(one.cheaper_kl)}`,
        "No token was over-served."));
  }

  kinds(row) {
    const title = "Spend by kind of token";
    const columns = ["Kind of [[token]]", "Tokens", ...AXIS_TERMS, "[[kl|KL]]",
      "Lost vs [[dense|full model]]"];
    const spent = (kind, { key, short, fraction, unit }) => h("span", { "data-axis": key },
      h("span", { class: "sol-meter", "--v": fraction(kind[short]), "aria-hidden": "true" }),
      unit === "bit" ? fixed(kind[short], 1) : percent(kind[short]));
    return h("section", { class: "sol-difficulty-kinds" }, h("h3", {}, title),
      dataTable(title, columns, row.kinds.map((kind) => [kind.kind, kind.tokens.toLocaleString("en"),
        ...AXES.map((axis) => spent(kind, axis)), nats(kind.kl), signed(kind.loss)])));
  }

  correlation(row) {
    const title = "Spend goes along with";
    return h("section", {}, h("h3", {}, title),
      dataTable(title, ["Spend", "[[surprisal|Surprisal]]", "[[entropy|Entropy]]"],
        AXES.map(({ short, name }) => [name,
          ...["surprisal", "entropy"].map((of) => signed(row.correlation[short][of], 2))])),
      h("p", { class: "sol-hint" }, 
        "Rank correlation: 1 means that they always rise together, 0 no relation, −1 the opposite."));
  }

  list(title, meaning, entries, first, second, none) {
    return h("section", { class: "sol-difficulty-list" }, h("h3", {}, title),
      h("p", { class: "sol-hint" }, entries.length ? meaning : none),
      h("ol", {}, entries.map((one) => h("li", {}, h("button", { type: "button",
        class: "sol-difficulty-entry", onclick: () => this.go(one.index),
        "aria-label": `Token ${one.index + 1}: ${spokenText(one.text)}. ${first(one)}, ${second(one)}` },
      h("span", { class: "sol-difficulty-token" }, tokenNodes(one.text)),
      h("span", {}, first(one)), h("span", { class: "sol-muted" }, `token ${one.index + 1}`),
      h("span", { class: "sol-muted" }, second(one)))))));
  }
}

const perplexity = (nll) => (nll < Math.log(1000) ? fixed(Math.exp(nll), 2)
  : Math.round(Math.exp(nll)).toLocaleString("en"));

// The schedules side by side in numbers: what each read, and what the text cost under it.
class Totals {
  compared = dataTable("Schedules compared", ["[[schedule|Schedule]]", "Compute", "[[kl|KL]]",
    "[[nll|NLL]]", "[[perplexity|Perplexity]]"], []);
  axes = dataTable("Spend of each axis", ["[[schedule|Schedule]]", ...AXIS_TERMS], []);
  element = h("div", {}, this.compared, folded("Details", this.axes));

  // labels: of the rows, null of one that is another's; matched: static once more, at the bytes of the row
  // that it names.
  draw(names, labels, tokens, matched = []) {
    const dense = bytesOf(tokens, 0);
    const line = (name, bytes, kl, nll) =>
      [name, percent(bytes / dense, 1), nats(kl), nats(nll), perplexity(nll)];
    const meanOf = (at, of) => mean(tokens.map(({ rows }) => of(rows[at])));
    fillTable(this.compared, labels.flatMap((label, at) => {
      const again = matched.find((one) => one.name === names[at]);
      const own = label && line(label, bytesOf(tokens, at), at ? meanOf(at, (row) => row.kl) : NaN,
        meanOf(at, (row) => row.nll));
      return again ? [own, line(`${rowName(STATIC)}, at these bytes`, totalCost(again.cost).bytes_read,
        mean(again.kl), mean(again.nll))] : own ? [own] : [];
    }));
    fillTable(this.axes, labels.flatMap((label, at) => (label ? [[label, ...AXES.map((axis) => {
      const spent = meanOf(at, axis.of);
      return axis.unit === "bit" ? fixed(spent, 2) : percent(spent, 1);
    })]] : [])));
    show(this.element, tokens.length > 0);
  }
}

const TABLE_NOTE = "Means per token: NLL and KL measured, in nats; bytes computed.";
export const INSPECT_STATES = { prefill: ["Reading the text", "busy"], running: ["Scoring", "busy"],
  bare: ["Stopped before the first token", "idle", "Nothing was scored."] };

const ALL = "all";

// The text under one schedule, or under all of them side by side, which scroll and point together.
export class InspectionStage extends ChartedStage {
  /** What stands before the tokens. @type {HTMLElement[]} */
  lead = [];
  tokens = [];
  /** Of the rows, for people; null of one that is another's. @type {(string | null)[]} */
  labels = [];
  /** @type {ReturnType<typeof pillsField>} */
  chosen;

  // on: as a TokenStage's, and where it is kept row(value).
  constructor(root, status, on, options) {
    super(root, [...colourAxes(), differenceAxis], on, { ...options, colourKey: "inspectAxis",
      scored: "All rows score the inspected text." });
    this.status = status;
    this.totals = new Totals();
    this.verdict = new VerdictLine();
    this.choice = h("div", { class: "sol-pane-choice", hidden: true });
    this.panes = h("div", { class: "sol-panes" });
    this.difficulty = new Difficulty((index) => this.focus(index));
    this.speed = h("p", { class: "sol-hint" });
  }

  // Panels in their order; above: the tokens; over: lies over them; tools: for the foot; below: under them.
  /** @param {{ above?: Element, over?: Element, tools?: Element, below?: Element }} [parts] */
  build({ above, over, tools, below } = {}) {
    return h("div", { class: "sol-stage" },
      h("section", { class: "sol-panel sol-status", "aria-label": "Inspection's status" },
        this.status.head, this.verdict.element),
      above,
      h("section", { class: "sol-panel sol-tokens", "aria-label": "Inspected tokens" },
        h("div", { class: "sol-inspect-head" }, this.choice, this.legend.element),
        this.reading.element, h("div", { class: "sol-token-place" }, this.panes, over),
        this.buildFoot(tools)),
      h("section", { class: "sol-panel sol-status", "aria-label": "In numbers" }, this.totals.element,
        this.speed),
      below, this.charts.element, this.difficulty.element);
  }

  rows(at = this.at) {
    return this.viewOf(at)?.rows ?? this.tokens.map((token) => this.row(token, at));
  }

  row(token, at) {
    const { grid, read_pages: isRecorded } = this.run.config;
    return rowOf(token, at, isRecorded ? grid.page_size : 0);
  }

  enter(index, token, at) {
    this.readRow(at);
    super.enter(index, token, at);
  }

  readRow(at) {
    if (at === this.readAt) return;
    this.reading.shadeTokens(null);
    this.reading.effects?.clear();
    this.readAt = at;
    this.reading.recount();
  }

  focus(index) {
    const view = this.viewOf(this.at) ?? this.columns[0].view;
    const token = view.elements[index];
    if (!token) return;
    this.panes.scrollIntoView({ block: "nearest", behavior: "auto" });
    view.reveal(token);
    token.focus({ preventScroll: true });
  }

  clear() {
    super.clear();
    this.tokens = [];
    this.names = this.labels = [];
    this.lead = [];
    this.columns = [];
    this.isLive = this.isOver = false;
    this.run = this.report = this.scored = null;
    show(this.choice, false);
    show(this.speed, false);
    this.panes.replaceChildren();
    this.totals.draw([], [], []);
    this.verdict.draw([]);
    this.difficulty.draw(null);
  }

  /** @param {number[]} shares */
  colour(shares) {
    Object.assign(this.axes[0], stretched(shares), { isOpen: shares.length > 0 });
    this.legend.set(this.legend.axis.key);
  }

  begin(run) {
    this.run = run;
    this.colour([]);
    this.names = rowNames(run);
    this.labels = this.names.map(rowName);
    this.totals.draw(this.names, this.labels, []);
    this.note = TABLE_NOTE + (this.names.includes(PAINTED)
      ? " The other schedules are scored again, at the painted one's bytes." : "");
    showText(this.speed, this.note);
    this.offerRows();
    this.showRow(String(this.names.length - 1));
  }

  offerRows() {
    this.legend.allow("difference", this.names.includes(STATIC), "Needs static among the schedules");
    const rows = this.labels.flatMap((label, at) => (label ? [[String(at), label]] : []));
    const choices = Object.fromEntries([...rows, [ALL, "Side by side"]]);
    this.chosen = pillsField({ legend: "Schedule", choices, isSmall: true, changed: (value) => {
      this.showRow(value);
      this.on.row?.(value);
    } });
    this.choice.replaceChildren(this.chosen.element);
    show(this.choice, true);
  }

  // A policy that left every step to static is one row with it.
  merge() {
    const even = this.names.indexOf(STATIC);
    const twin = this.names.findIndex((name, at) => even > 0 && name.startsWith("policy:")
      && this.tokens.every(({ rows }) => !rows[at].policy && rows[at].nll === rows[even].nll));
    if (twin < 0 || !this.tokens.length) return;
    this.labels[even] = `Static = ${rowName(this.names[twin])}`;
    this.labels[twin] = null;
    const chosen = this.chosen.get();
    this.offerRows();
    this.showRow(chosen);
  }

  // One row's number, or ALL. The charts, the card and the report follow the row.
  showRow(value) {
    const row = value === ALL || this.labels[value] ? value : String(this.names.indexOf(STATIC));
    this.chosen.set(row);
    if (row !== ALL) this.at = Number(row);
    const shown = row === ALL ? [...this.names.keys()].filter((at) => this.labels[at]) : [this.at];
    this.columns = [];
    this.panes.classList.toggle("is-many", shown.length > 1);
    this.panes.replaceChildren(...shown.map((at) => this.pane(at, shown.length > 1)));
    this.columns.forEach(({ at, view }) => view.append(this.tokens.map((token) => this.row(token, at))));
    if (!this.isLive) this.toTop();
    if (this.selected) this.select(this.selected);
    this.pick(...this.picked);
    this.setLive(this.isLive);
    this.readRow(this.at);
    this.card.hide();
    this.charts.clear(runOfRow(this.run, this.at));
    if (this.tokens.length) this.charts.append(this.rows());
    if (this.scored) this.charts.data.limit = this.scored;
    if (this.isOver) this.charts.finish();
    if (this.isOver) this.rest();
    this.difficulty.draw(this.report, this.names, this.at);
  }

  pane(at, isOneOfMany) {
    const name = rowName(this.names[at]);
    const view = this.addColumn(at, `Tokens under ${name}`);
    this.showLead(view.lead);
    // The same text breaks into the same lines in every pane, so one place suits all.
    view.element.addEventListener("scroll", () => {
      if (!view.element.matches(":hover, :focus-within")) return;
      this.columns.forEach((column) => { column.view.element.scrollTop = view.element.scrollTop; });
    }, { passive: true });
    return h("div", { class: "sol-pane" },
      isOneOfMany && h("h3", {}, name), h("div", { class: "sol-pane-place" }, view.element));
  }

  showLead(place) {
    place.replaceChildren(...this.lead.map((node) => node.cloneNode(true)));
  }

  append(tokens) {
    this.tokens.push(...tokens);
    this.columns.forEach(({ at, view }) => view.append(tokens.map((token) => this.row(token, at))));
    this.reading.follow();
    this.charts.append(tokens.map((token) => this.row(token, this.at)));
  }

  // Takes a poll but for its rows. model: the loader's state, where there is one.
  update(view, run, model) {
    const { prefill } = view;
    if (prefill && !this.lead.length) {
      this.scored = this.charts.data.limit = prefill.scored_tokens;
      // Read densely, without a score.
      this.lead = leadOf(run.config.generated.length ? "Prompt, read in full" : "Read first, not scored",
        prefill.prefix_text);
      this.columns.forEach(({ view: { lead } }) => this.showLead(lead));
      this.reading.begin(run.config.grid.page_size, view.pages ?? [], prefill.prefix.length);
      this.reading.follow();
    }
    const done = this.tokens.length;
    this.status.update(view, model, prefill ? inspectionWords(prefill, done) : "",
      done / (prefill?.scored_tokens || 1));
    this.totals.draw(this.names, this.labels, this.tokens);
  }

  finish(view) {
    this.isOver = true;
    this.colour(this.names.slice(1).flatMap((_, at) => // all but the full model's
      this.tokens.map((token) => shareOfBytes(this.row(token, at + 1)))));
    this.merge();
    this.totals.draw(this.names, this.labels, this.tokens, view.summary?.matched);
    this.verdict.draw(view.summary?.verdicts ?? []);
    this.charts.finish();
    this.report = view.summary?.report ?? null;
    this.difficulty.draw(this.report, this.names, this.at);
    this.resting = leastCertain(this.rows());
    if (this.card.element.hidden) this.rest();
    if (!view.summary) return;
    const cut = view.summary.reason === "time_limit"
      ? "The GPU's time for one run was used up: the rest of the text was not inspected. " : "";
    setText(this.speed, `${cut}${this.note} Measured: ${fixed(view.summary.tokens_per_s, 1)} `
      + `tokens/s, ${count(this.names.length, "row")} in each step. ${machineWords(view.summary.made_on)}`);
  }
}

function inspectionWords({ scored_tokens: scored, prefix, text_tokens: whole }, done) {
  const left = whole - prefix.length - scored;
  return `${done.toLocaleString("en")} of ${count(scored, "token")} scored`
    + (left > 0 ? ` · the last ${count(left, "token")} of the text left out` : "");
}
