// Tables of what if: per axis the tokens that its levels would put here, levels of one choice in one row.

import { h, headRow, smallButton, uniqueId } from "../dom.js";
import { AXES, fixed, isNumber, MISSING, nats, probability, signed } from "../format.js";
import { levelText, nearest } from "../tokens/card.js";
import { spokenText, tokenNodes } from "../tokens/token_text.js";

// Neighbouring rows of one choice: their first and last place, and whether it is another than as taken.
export function choiceRanges(rows, taken) {
  const ranges = [];
  rows.forEach(({ choice }, at) => {
    const last = ranges.at(-1);
    if (last?.choice.token_id === choice.token_id) last.to = at;
    else ranges.push({ from: at, to: at, choice, isOther: choice.token_id !== taken.choice.token_id });
  });
  return ranges;
}

const MOST_CHANGES = 3; // that a heading lists

// "20 to 60 %": the unit stands once.
const joined = (texts, word) => [...texts.slice(0, -1).map((text) => text.split(" ")[0]), texts.at(-1)].join(word);
const between = (low, high) => joined(low === high ? [high] : [low, high], " to ");

function changesText(places) {
  if (!places.length) return "the same at every level";
  return places.length > MOST_CHANGES ? `changes ${places.length} times` : `changes at ${joined(places, ", ")}`;
}

function probabilityText(rows) {
  const shares = rows.map((row) => row.choice.probability).filter(isNumber);
  return shares.length ? between(probability(Math.min(...shares)), probability(Math.max(...shares))) : MISSING;
}

const tokenParts = (text) => [h("span", { class: "sol-lens-choice", "aria-hidden": "true" }, tokenNodes(text)),
  h("span", { class: "sol-offscreen" }, spokenText(text).trim())];

// axis: with the levels of the grid; rows: one per level; own: id of the token in the text; fork(token id): goes on
// from another one, null where that cannot be.
export function choiceTable(axis, levels, rows, taken, own, fork) {
  const ranges = choiceRanges(rows, taken);
  const takenAt = nearest(levels, taken.action[axis.field]);
  const id = uniqueId("choices");
  const changes = changesText(ranges.slice(1).map((range) => levelText(axis, levels[range.from])));
  return h("div", { class: "sol-lens-axis", "data-axis": axis.key },
    h("h3", { id }, h("span", {}, axis.title), h("small", {}, changes)),
    h("table", { class: "sol-lens-choices", "aria-labelledby": id },
      headRow(["Level", "Would choose", "Probability"]),
      h("tbody", {}, ranges.map((range) => {
        const isTaken = range.from <= takenAt && takenAt <= range.to;
        return h("tr", { class: range.isOther && "is-other" },
          h("th", { scope: "row" }, between(levelText(axis, levels[range.from]), levelText(axis, levels[range.to]))),
          h("td", {}, h("span", { "aria-hidden": "true" }, "→ "), tokenParts(range.choice.text),
            range.isOther && h("span", { class: "sol-offscreen" }, ", another token"),
            isTaken && [h("span", { class: "sol-offscreen" }, ", "), h("small", {}, "taken")],
            fork && range.choice.token_id !== own && forkButton(range.choice, fork)),
          h("td", {}, probabilityText(rows.slice(range.from, range.to + 1))));
      }))));
}

const forkButton = ({ token_id: id, text }, fork) => smallButton("Continue from here", () => fork(id),
  { class: "sol-lens-fork", "aria-label": `Continue from here with ${spokenText(text).trim()}` });

export function choiceNote(view, row) {
  const { choice } = view.taken;
  const others = view.axes.flat().some((one) => one.choice.token_id !== choice.token_id);
  return [
    "The most probable token at each level. As taken it is ", h("b", {}, tokenParts(choice.text)),
    others ? "; rows with another token are marked." : ", and so it is at every level.",
    choice.token_id !== row.token_id && [" The text has ", h("b", {}, tokenParts(row.text)),
      " here: drawn by sampling, kept from repeating, or given."],
  ];
}

function trailName(trail) {
  const axis = AXES.find((one) => one.field === trail.name);
  return axis ? `${axis.name} at ${levelText(axis, trail.action[axis.field])}` : "As taken";
}

function cellText(value) {
  if (!isNumber(value)) return MISSING;
  if (Math.abs(value) < 0.005) return "·";
  return (value < 0 ? "−" : "") + Math.abs(value).toFixed(2).replace(/^0/, "");
}

function heatCell(value, top, title) {
  const share = isNumber(value) ? Math.min(Math.abs(value) / top, 1) : 0;
  return h("td", { class: "sol-heat", "data-sign": value < 0 ? "less" : "more", "--v": share, title,
    "aria-label": title }, cellText(value));
}

// measure: "kl" or "nll", what the cells show. rows: the run's tokens.
export function trailTable(view, rows, measure) {
  const key = measure === "nll" ? "nll_change" : measure;
  const followed = view.trails[0].kl.map((_, at) => rows[view.index + 1 + at]);
  const top = Math.max(...view.trails.flatMap((trail) => trail[key].map(Math.abs)), 0.02);
  const unit = key === "kl" ? "KL" : "surprisal change";
  return h("table", { class: "sol-heat-table" },
    h("caption", { class: "sol-offscreen" }, `${unit} of the tokens that followed, nats`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "This step"),
      followed.map((row) => h("th", { scope: "col", title: `token ${row.index + 1}` },
        h("span", { class: "sol-offscreen" }, spokenText(row.text).trim() || "space"),
        h("span", { class: "sol-heat-token", "aria-hidden": "true" }, tokenNodes(row.text)))),
      h("th", { scope: "col", class: "is-sum" }, "Sum"))),
    h("tbody", {}, view.trails.map((trail) => h("tr", {},
      h("th", { scope: "row" }, trailName(trail)),
      trail[key].map((value, at) => heatCell(value, top,
        `token ${followed[at].index + 1}: ${unit} ${key === "kl" ? nats(value) : signed(value)}`)),
      h("td", { class: "is-sum" }, (key === "kl" ? fixed : signed)(
        trail[key].reduce((sum, value) => sum + value, 0), 2))))));
}
