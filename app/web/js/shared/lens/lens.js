// "What if?": the chosen token under every level of every axis, decoded anew from the run's own cache, and
// the tokens that followed.

import { attempt, newest } from "../api.js";
import {
  chip, errorLine, glossed, h, headRow, setChildren, setText, show, showText, smallButton, svg, uniqueId,
} from "../dom.js";
import {
  AXES, fixed, gridLevels, isNumber, levelText, MISSING, nats, nearest, probability,
} from "../format.js";
import { endsOf, LEAST_TOP, levelBars, tablePlace } from "../page_parts.js";
import { spokenText, tokenNodes } from "../tokens/token_text.js";

const LEAST_NOISE = Math.log(1.1); // nats by which a token must lead, whatever rounding does

export class LensPanel {
  // on: {close(hadFocus), fork(index, token id) where it can be done}
  constructor(api, on) {
    this.api = api;
    this.on = on;
    this.token = h("span", { class: "sol-lens-token" });
    this.state = h("span", { class: "sol-muted", role: "status" });
    this.again = smallButton("Try again", () => this.ask(), { hidden: true });
    this.message = errorLine();
    this.choices = h("div", { class: "sol-lens-axes" });
    this.choiceNote = h("p", { class: "sol-hint" });
    this.curves = h("div", { class: "sol-lens-axes" });
    this.curvesNote = h("p", { class: "sol-hint" });
    this.trails = tablePlace("The tokens that followed", null);
    this.trailNote = h("p", { class: "sol-hint" });
    const part = (title, ...rest) => h("section", { class: "sol-lens-part", "aria-label": title },
      h("h3", {}, title), rest);
    this.body = h("div", { class: "sol-lens-body", hidden: true },
      part("The token each level chooses", this.choiceNote, this.choices),
      part("Every level", this.curves, this.curvesNote),
      part("The next tokens", this.trails, this.trailNote));
    this.element = h("section", { class: "sol-panel sol-lens", "aria-label": "What if?", hidden: true },
      h("header", {}, h("h2", {}, "What if?"), this.token, this.state, this.again,
        h("div", { class: "sol-tools" }, chip("Close", () => this.close()))),
      this.message, this.body);
    addEventListener("keydown", ({ key }) => key === "Escape" && !this.element.hidden && this.close());
  }

  close() {
    const hadFocus = this.element.contains(document.activeElement);
    this.clear();
    this.on.close(hadFocus);
  }

  clear() {
    this.turn = {};
    this.wanted = null; // what is asked about
    this.waits = false; // for the run's end
    this.element.removeAttribute("aria-busy");
    [this.element, this.message, this.again].forEach((part) => show(part, false));
  }

  open(run, isLive, rows, index, which = {}) {
    this.clear();
    this.wanted = { run, rows, index, which };
    this.token.replaceChildren(h("b", {}, tokenNodes(rows[index].text)), ` token ${index + 1}`);
    show(this.element, true);
    if (isLive) {
      show(this.body, false);
      this.waits = true;
      setText(this.state, "Opens when the run has ended.");
    } else this.ask();
  }

  // One question at a time; walking through the tokens, only the last one's answer is drawn.
  async ask() {
    if (!this.wanted) return;
    this.waits = false;
    const { run, index, rows, which } = this.wanted;
    [this.message, this.again].forEach((part) => show(part, false));
    this.element.setAttribute("aria-busy", "true");
    this.setOld(true);
    setText(this.state, "Decoding the alternatives…");
    await newest(this, Promise.allSettled([this.asking]));
    await attempt(async () => {
      this.asking = this.api("look_at_token", { run_id: run.id, index, ...which });
      this.draw(await newest(this, this.asking), run, rows);
    }, (words) => this.fail(words));
    this.element.removeAttribute("aria-busy");
  }

  // Another token's answer is dim, and nothing in it can be pressed.
  setOld(isOld) {
    this.body.classList.toggle("is-old", isOld);
    this.body.inert = isOld;
  }

  complain(words) {
    showText(this.message, words);
    this.message.scrollIntoView({ block: "nearest" });
  }

  fail(words) {
    setText(this.state, "");
    showText(this.message, words);
    show(this.again, true);
    show(this.body, false);
  }

  draw(view, run, rows) {
    const row = rows[view.index];
    const axes = gridLevels(run) ?? [];
    const choices = view.axes.map((levels) => choicesOf(levels, view.taken, row.token_id, view.noise ?? 0));
    setChildren(this.choiceNote, choiceNote(view, row, choices.flat()));
    const fork = this.on.fork && ((token) => this.on.fork(view.index, token));
    this.choices.replaceChildren(...axes.map(({ axis, levels }, at) =>
      choiceTable(axis, levels, choices[at], view.taken, row.token_id, fork)));
    const shared = { taken: view.taken, dense: view.dense, scale: lensScale(view),
      top: Math.max(...(row.policy ?? []).flat(), LEAST_TOP) };
    this.curves.replaceChildren(...axes.map(({ axis, levels }, at) => new LevelPlot(axis, levels,
      view.axes[at], row.policy?.[at] ?? null, shared).element));
    setText(this.state, "Changes one setting at a time.");
    setText(this.curvesNote, replayedText(row, view));
    const followed = view.trails[0].kl.length;
    show(this.trails, followed > 0);
    this.trails.replaceChildren(followed ? trailTable(view, rows) : "");
    this.trailNote.replaceChildren(...glossed(followed ? "How much each change to this step shifts the "
      + "tokens that follow, through [[kv pollution|errors left in the cache]]: KL in [[nats]]; a dot is "
      + "less than 0.005." : "Nothing of this step reaches a later token: the run ends here."));
    show(this.body, true);
    this.setOld(false);
  }
}

function replayedText(row, view) {
  const { nll, kl_to_dense: kl } = view.replayed ?? {};
  if (isNumber(row.surprisal) && isNumber(nll) && Math.abs(row.surprisal - nll) > 0.02) {
    return `Replayed with a surprisal of ${nats(nll)} instead of ${nats(row.surprisal)}: rounding chose `
      + "other pages or channels.";
  }
  const noise = view.noise ? ` Differences of surprisal below ${nats(view.noise)} nats may be rounding.` : "";
  const own = isNumber(kl) ? " KL compares with a full step on this run's own cache; "
    + `compared with the full model that ran beside it, this step's is ${nats(kl)}.` : "";
  return `Dashed: nothing left out.${noise}${own}`;
}

// Choices of each level; the text's own token where another one leads by no more than rounding can.
function choicesOf(rows, { choice: taken }, own, noise) {
  return rows.map(({ choice, nll }) => {
    const isNear = taken.token_id === own && choice.token_id !== own
      && Math.log(choice.probability) + nll < Math.max(noise, LEAST_NOISE);
    return isNear ? { ...taken, probability: Math.exp(-nll) } : choice;
  });
}

// Neighbouring levels of one choice: the first and the last, and whether it is another than as taken.
function choiceRanges(choices, taken) {
  const ranges = [];
  choices.forEach((choice, at) => {
    const last = ranges.at(-1);
    if (last?.choice.token_id === choice.token_id) last.to = at;
    else ranges.push({ from: at, to: at, choice, isOther: choice.token_id !== taken.choice.token_id });
  });
  return ranges;
}

// "20 to 60 %": the unit stands once.
const joined = (texts, word) =>
  [...texts.slice(0, -1).map((text) => text.split(" ")[0]), texts.at(-1)].join(word);
const between = (low, high) => joined(low === high ? [high] : [low, high], " to ");

function changesText(ranges, textOf) {
  const [first, second, ...more] = ranges;
  if (!second) return "the same at every level";
  return more.length ? `changes ${ranges.length - 1} times`
    : `changes between ${joined([first.to, second.from].map(textOf), " and ")}`;
}

function probabilityText(choices) {
  const chances = choices.map((choice) => choice.probability).filter(isNumber);
  if (!chances.length) return MISSING;
  return between(probability(Math.min(...chances)), probability(Math.max(...chances)));
}

const tokenParts = (text) => [
  h("span", { class: "sol-lens-choice", "aria-hidden": "true" }, tokenNodes(text)),
  h("span", { class: "sol-offscreen" }, spokenText(text).trim())];

// choices: one per level; own: id of the token in the text; fork(token id): goes on from another, or null.
function choiceTable(axis, levels, choices, taken, own, fork) {
  const ranges = choiceRanges(choices, taken);
  const takenAt = nearest(levels, taken.action[axis.field]);
  const id = uniqueId("choices");
  const textOf = (at) => levelText(axis, levels[at]);
  return h("div", { class: "sol-lens-axis", "data-axis": axis.key },
    h("h3", { id }, h("span", {}, axis.name), h("small", {}, changesText(ranges, textOf))),
    h("table", { class: "sol-lens-choices", "aria-labelledby": id },
      headRow(["Level", "Would choose", "Probability"]),
      h("tbody", {}, ranges.map((range) => {
        const isTaken = range.from <= takenAt && takenAt <= range.to;
        return h("tr", { class: range.isOther && "is-other" },
          h("th", { scope: "row" }, between(textOf(range.from), textOf(range.to))),
          h("td", {}, h("span", { "aria-hidden": "true" }, "→ "), tokenParts(range.choice.text),
            range.isOther && h("span", { class: "sol-offscreen" }, ", another token"),
            isTaken && [h("span", { class: "sol-offscreen" }, ", "), h("small", {}, "taken")],
            fork && range.choice.token_id !== own && forkButton(range.choice, fork)),
          h("td", {}, probabilityText(choices.slice(range.from, range.to + 1))));
      }))));
}

const forkButton = ({ token_id: id, text }, fork) => smallButton("Continue from here", () => fork(id),
  { class: "sol-lens-fork", "aria-label": `Continue from here with ${spokenText(text).trim()}` });

function choiceNote(view, row, choices) {
  const { choice } = view.taken;
  const others = choices.some((one) => one.token_id !== choice.token_id);
  return [
    "The most probable token at each level, ignoring leads small enough to be rounding. The step took ",
    h("b", {}, tokenParts(choice.text)),
    others ? "; rows with another token are marked." : ", and so it is at every level.",
    choice.token_id !== row.token_id && [" The text has ", h("b", {}, tokenParts(row.text)),
      row.dense_surprisal === undefined
        ? " here: sampling, the repetition penalty or a choice changed it." : " here."],
  ];
}

function trailName(trail) {
  const axis = AXES.find((one) => one.field === trail.name);
  return axis ? `${axis.name} at ${levelText(axis, trail.action[axis.field])}` : "As taken";
}

function heatCell(value, top, title) {
  const chance = isNumber(value) ? Math.min(value / top, 1) : 0;
  const text = isNumber(value) && value < 0.005 ? "·" : fixed(value, 2).replace(/^0/, "");
  return h("td", { class: "sol-heat", "--v": chance, title, "aria-label": title }, text);
}

// rows: the run's tokens.
function trailTable(view, rows) {
  const followed = view.trails[0].kl.map((_, at) => rows[view.index + 1 + at]);
  const top = Math.max(...view.trails.flatMap((trail) => trail.kl), 0.02);
  return h("table", { class: "sol-heat-table" },
    h("caption", { class: "sol-offscreen" }, "KL of the tokens that followed, nats"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "This step"),
      followed.map((row) => h("th", { scope: "col", title: `token ${row.index + 1}` },
        h("span", { class: "sol-offscreen" }, spokenText(row.text).trim() || "space"),
        h("span", { class: "sol-heat-token", "aria-hidden": "true" }, tokenNodes(row.text)))),
      h("th", { scope: "col", class: "is-sum" }, "Sum"))),
    h("tbody", {}, view.trails.map((trail) => h("tr", {},
      h("th", { scope: "row" }, trailName(trail)),
      trail.kl.map((value, at) => heatCell(value, top, `token ${followed[at].index + 1}: KL ${nats(value)}`)),
      h("td", { class: "is-sum" }, fixed(trail.kl.reduce((sum, value) => sum + value, 0), 2))))));
}

const LANES = [
  { key: "kl", name: "KL to the full model", of: (row) => row.kl },
  { key: "surprisal", name: "Surprisal", of: (row) => row.nll },
];

/** A line over levels between two values, dashed where a full step lies; the level at `at` stands out.
 * @param {{ key: string, name: string, values: number[], at: number, range: number[], full: number }} lane */
export function levelLane({ key, name, values, at, range: [low, high], full }) {
  const y = (value) => 92 - (84 * (value - low)) / (high - low || 1);
  const x = (place) => (100 * (place + 0.5)) / values.length;
  const points = values.map((value, place) => `${x(place).toFixed(2)} ${y(value).toFixed(2)}`);
  const line = points.join("L");
  return h("div", { class: "sol-lens-lane", "data-lane": key },
    h("span", {}, name), h("span", {}, `${low === 0 ? "" : `${nats(low)} to `}${nats(high)} nats`),
    svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("path", { class: "sol-lens-dense", d: `M0 ${y(full).toFixed(2)}H100` }),
      low === 0 && svg("path", { class: "sol-lens-fill",
        d: `M${x(0)} ${y(0)}L${line}L${x(points.length - 1)} ${y(0)}Z` }),
      svg("path", { class: "sol-lens-line", d: `M${line}` }),
      svg("path", { class: "sol-lens-dots", d: points.map((point) => `M${point}h0`).join("") }),
      svg("path", { class: "sol-lens-dot", d: `M${points[at]}h0` })));
}

// The scale that the plots chance, so that their curves compare: lowest and highest per lane.
function lensScale(view) {
  const rows = [view.dense, ...view.axes.flat()];
  const scale = Object.fromEntries(LANES.map((lane) => {
    const values = rows.map(lane.of).filter(isNumber);
    return [lane.key, [Math.min(...values), Math.max(...values, 1e-3)]];
  }));
  scale.kl[0] = 0;
  return scale;
}

class LevelPlot {
  // levels: of the grid; rows: one per level; chances: the policy's probabilities or null.
  constructor(axis, levels, rows, chances, { taken, dense, scale, top }) {
    this.axis = axis;
    this.levels = levels;
    this.rows = rows;
    this.chances = chances;
    this.taken = nearest(levels, taken.action[axis.field]);
    this.mark = h("i", { class: "sol-lens-mark", "aria-hidden": "true" });
    this.readout = h("p", { class: "sol-lens-readout" });
    const at = `${(100 * (this.taken + 0.5)) / levels.length}%`;
    this.plot = h("div", { class: "sol-lens-plot", tabindex: "0", role: "slider",
      "aria-label": `${axis.name}: every level at this step`, "aria-valuemin": 1,
      "aria-valuemax": levels.length,
      onpointermove: (event) => this.point(event), onpointerleave: () => this.show(this.taken),
      onkeydown: (event) => this.onKey(event), onblur: () => this.show(this.taken) },
    h("i", { class: "sol-lens-taken", "aria-hidden": "true", "--x": at }), this.mark,
    LANES.map(({ key, name, of }) => levelLane({ key, name, values: rows.map(of),
      at: this.taken, range: scale[key], full: of(dense) })),
    chances && h("div", { class: "sol-lens-lane", "data-lane": "policy" },
      h("span", {}, "Policy"), h("span", {}, `up to ${probability(top)}`),
      h("div", { class: "sol-levels", "aria-hidden": "true" },
        levelBars(chances.map((chance) => chance / top), this.taken))));
    this.element = h("div", { class: "sol-lens-axis", "data-axis": axis.key },
      h("h3", {}, axis.name, h("small", {}, `taken: ${levelText(axis, levels[this.taken])}`)),
      this.plot, endsOf(levelText(axis, levels[0]), levelText(axis, levels.at(-1))), this.readout);
    this.show(this.taken);
  }

  point(event) {
    const box = this.plot.getBoundingClientRect();
    this.show(Math.floor((this.levels.length * (event.clientX - box.left)) / box.width));
  }

  onKey(event) {
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
    const goal = { Home: 0, End: this.levels.length - 1 }[event.key]
      ?? (event.key in steps ? this.at + steps[event.key] : null);
    if (goal === null) return;
    event.preventDefault();
    this.show(goal);
  }

  show(wanted) {
    const at = this.at = Math.min(Math.max(wanted, 0), this.levels.length - 1);
    const { choice, kl, nll } = this.rows[at];
    this.mark.style.setProperty("--x", `${(100 * (at + 0.5)) / this.levels.length}%`);
    const parts = [`KL ${nats(kl)}`, `surprisal ${nats(nll)}`];
    if (this.chances) parts.push(`policy ${probability(this.chances[at])}`);
    const level = `${levelText(this.axis, this.levels[at])}${at === this.taken ? " (taken)" : ""}`;
    this.mark.classList.toggle("is-taken", at === this.taken);
    this.readout.replaceChildren(h("b", {}, level),
      ...choice ? [h("span", {}, "→ ", h("b", {}, tokenNodes(choice.text)))] : [],
      ...parts.map((part) => h("span", {}, part)));
    if (choice) parts.push(`would choose ${spokenText(choice.text).trim()}`);
    this.plot.setAttribute("aria-valuenow", at + 1);
    this.plot.setAttribute("aria-valuetext", `${level}: ${parts.join(", ")}`);
  }
}
