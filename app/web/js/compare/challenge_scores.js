// Scores of a challenge: every method of the last batch, token by token, and the scoreboard. KL to
// dense decides; NLL stands beside it.

import { chip, h, headRow, setText, show } from "../shared/dom.js";
import { AXES, fixed, nats, percent, whenText } from "../shared/format.js";
import { tablePanel } from "../shared/page_parts.js";
import { cardHead, cardLanes } from "../shared/tokens/card.js";

const SHOWN_METHODS = ["you", "policy", "static", "random", "dense"];
const inOrder = (scores) => SHOWN_METHODS.map((name) => scores.find((one) => one.name === name))
  .filter(Boolean);

export class ScoreTable {
  constructor() {
    this.body = h("tbody", {});
    this.verdict = h("p", { class: "sol-verdict", role: "status" });
    this.element = tablePanel(h("table", { class: "sol-table sol-score-table" }, h("thead", {}, h("tr", {},
      h("th", { scope: "col" }, "Schedule"), h("th", { scope: "col" }, "KL to dense"),
      h("td", { class: "sol-score-bar" }), ["NLL", "Attention", "Channels", "Bits"].map((text) =>
        h("th", { scope: "col" }, text)))), this.body),
    { title: "Scores", label: "Scores", name: "Scores of all schedules", head: this.verdict,
      note: "Means over the painted tokens, in nats per token, measured in one batch on the same dense "
        + "context. Less KL is closer to the dense model, and decides; on so few tokens luck counts, and one level elsewhere can change it. "
        + "Attention, channels and bits are what each really spent." });
  }

  render(scores) {
    const rows = inOrder(scores);
    const top = Math.max(...rows.map((one) => one.kl), 1e-9);
    const best = Math.min(...rows.filter((one) => one.name !== "dense").map((one) => one.kl));
    this.body.replaceChildren(...rows.map((one) => h("tr", { "data-method": one.name },
      h("th", { scope: "row" }, one.label),
      h("td", { class: one.kl === best ? "is-best" : null }, fixed(one.kl, 4)),
      h("td", { class: "sol-score-bar" }, h("span", { class: "sol-meter", "--v": one.kl / top })),
      h("td", {}, fixed(one.nll, 4)),
      AXES.map((axis, at) => h("td", {}, axis.key === "bits" ? fixed(one.spend[at], 2)
        : percent(one.spend[at], 1))))));
    const by = (name) => scores.find((one) => one.name === name);
    setText(this.verdict, by("you") ? verdictText(by("you"), by("policy"), by("static"))
      : "Your turn: paint, then press Score it.");
    this.verdict.dataset.kind = by("you") && by("you").kl < by("policy").kl ? "good" : "open";
  }
}

function verdictText(you, policy, even) {
  if (you.kl === policy.kl) return "As good as the policy, to the last digit.";
  const gap = percent(Math.abs(1 - you.kl / policy.kl), 0);
  if (you.kl < policy.kl) return `You beat the policy: ${gap} less KL.`;
  return you.kl < even.kl ? `Better than static; the policy has ${percent(1 - policy.kl / you.kl, 0)} less KL.`
    : `The policy has ${percent(1 - policy.kl / you.kl, 0)} less KL, and static beats you too.`;
}

export class ScoreBoard {
  // on: {take(entry), remove(entry)}; menu: stands in the head
  constructor(on, menu) {
    this.on = on;
    this.list = h("ol", { class: "sol-board-list" });
    this.empty = h("p", { class: "sol-history-empty" }, "Nobody has tried this text at this budget yet.");
    this.element = h("section", { class: "sol-panel sol-board", "aria-label": "Scoreboard" },
      h("header", {}, h("h2", {}, "Scoreboard"),
        h("span", { class: "sol-muted" }, "of this text at this budget; kept in the database"), menu),
      this.list, this.empty);
  }

  render(entries, latest) {
    this.list.replaceChildren(...entries.map((entry, at) => h("li", {
      class: `sol-board-row${entry.id === latest ? " is-latest" : ""}`,
    },
    h("span", { class: "sol-board-place" }, `${at + 1}`),
    h("span", { class: "sol-board-name", dir: "auto" }, entry.name || "No name"),
    entry.beats ? h("span", { class: "sol-beats" }, "beats the policy") : h("span", {}),
    h("span", { class: "sol-board-numbers" }, `KL ${fixed(entry.kl, 4)} · NLL ${fixed(entry.nll, 4)}`),
    h("time", { class: "sol-muted", datetime: entry.created_at }, whenText(entry.created_at)),
    h("span", { class: "sol-board-tools" },
      chip("Paint on", () => this.on.take(entry), { "aria-label": `Paint on from place ${at + 1}` }),
      entry.can_delete && chip("Delete", () => this.on.remove(entry), { "aria-label": `Delete place ${at + 1}` })))));
    show(this.empty, entries.length === 0);
  }
}

// The card of a painted token: its schedule now, what the dense model made of it, and what every
// method had there.
export function challengeCard(row, scores) {
  return [cardHead(row),
    h("div", { class: "sol-card-spend" }, h("div", { class: "sol-card-caption" }, "Painted now"), cardLanes(row)),
    h("table", { class: "sol-card-methods" },
      h("caption", { class: "sol-offscreen" }, "This token under every schedule"),
      headRow(["Scored", "Attention", "Channels", "Bits", "KL", "NLL"]),
      h("tbody", {}, inOrder(scores).map((one) => h("tr", {}, h("th", { scope: "row" }, one.label),
        AXES.map((axis, at) => h("td", {}, axis.show(one.actions[row.index][at]))),
        h("td", {}, nats(one.kls[row.index])), h("td", {}, nats(one.nlls[row.index])))))),
    h("div", { class: "sol-card-foot" }, h("span", {},
      `Dense: surprisal ${nats(row.surprisal)}, entropy ${nats(row.entropy)} nats, measured`))];
}
