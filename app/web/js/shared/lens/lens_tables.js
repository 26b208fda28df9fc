// The lens's two heat maps, as tables: what a level did to the tokens that followed, and the joint
// grid of attention and channels. A cell says its number; the colour only helps the eye.

import { h, setText } from "../dom.js";
import { AXES, fixed, isNumber, MISSING, nats, percentTight, signed } from "../format.js";
import { levelText } from "../tokens/card_policy.js";
import { spokenText, tokenNodes } from "../tokens/token_text.js";

function trailName(trail) {
  const axis = AXES.find((one) => one.field === trail.name);
  if (!axis) return "As taken";
  return `${axis.name} at ${levelText(axis, trail.action[axis.field])}`;
}

// Three significant digits are too many in a cell: two decimals, and a dot for what rounds to zero.
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

// lines: [attention][channels] rows of one bit width.
export function planeTable(lines, key, taken) {
  const values = lines.flat().map((row) => row[key]).filter(isNumber);
  const low = key === "kl" ? 0 : Math.min(...values);
  const top = Math.max(...values.map((value) => value - low), 1e-3);
  const isTaken = (row) => AXES.every((axis) => row.action[axis.field] === taken.action[axis.field]);
  const text = (row) => `attention ${percentTight(row.action.keep_fraction)}, channels ${percentTight(row.action.channel_keep_ratio)}: `
    + `KL ${nats(row.kl)}, surprisal ${nats(row.nll)}, would choose ${spokenText(row.choice.text).trim()}`;
  const isOther = (row) => row.choice.token_id !== taken.choice.token_id;
  return h("table", { class: "sol-heat-table is-plane" },
    h("caption", { class: "sol-offscreen" }, "Attention down, channels across, nats"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Attention ↓", h("br"), "channels →"),
      lines[0].map((row) => h("th", { scope: "col" }, percentTight(row.action.channel_keep_ratio))))),
    h("tbody", {}, lines.slice().reverse().map((line) => h("tr", {},
      h("th", { scope: "row" }, percentTight(line[0].action.keep_fraction)),
      line.map((row) => {
        const cell = heatCell(row[key] - low, top, text(row));
        setText(cell, cellText(row[key]));
        if (isOther(row)) cell.classList.add("is-other");
        if (isTaken(row)) cell.classList.add("is-taken");
        return cell;
      })))));
}
