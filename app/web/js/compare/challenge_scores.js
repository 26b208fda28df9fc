// Scores of a challenge: every method of the last batch, token by token, and the scoreboard. KL to
// dense decides; NLL stands beside it.

import { chip, h, headRow, setText, show } from "../shared/dom.js";
import { AXES, fixed, nats, percent, whenText } from "../shared/format.js";
import { tablePanel } from "../shared/page_parts.js";
import { cardHead, cardLanes } from "../shared/tokens/card.js";
import { ShareStrip } from "./share_strip.js";

const SHOWN_METHODS = ["you", "policy", "static", "random", "dense"];
const inOrder = (scores) => SHOWN_METHODS.map((name) => scores.find((one) => one.name === name))
  .filter(Boolean);

export class ScoreTable {
  constructor() {
    this.body = h("tbody", {});
    this.verdict = h("p", { class: "sol-verdict", role: "status" });
    this.share = new ShareStrip();
    this.element = tablePanel(h("table", { class: "sol-table sol-score-table" }, h("thead", {}, h("tr", {},
      h("th", { scope: "col" }, "Schedule"), h("th", { scope: "col" }, "KL to dense"),
      h("td", { class: "sol-score-bar" }), ["NLL", ...AXES.map((axis) => axis.name)].map((text) =>
        h("th", { scope: "col" }, text)))), this.body),
    { title: "Scores", label: "Scores", name: "Scores of all schedules", head: [this.verdict, this.share.element],
      note: "Means over the painted tokens, in nats per token, measured in one batch on the same dense "
        + "context. Less KL is closer to the dense model, and decides; on so few tokens luck counts, and one level elsewhere can change it. "
        + "The axes show what each really spent." });
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
      AXES.map((axis, at) => h("td", {}, axis.unit === "bit" ? fixed(one.spend[at], 2)
        : percent(one.spend[at], 1))))));
    const by = (name) => scores.find((one) => one.name === name);
    const [you, policy, even] = [by("you"), by("policy"), by("static")];
    setText(this.verdict, you ? verdictText(you, policy, even) : aimText(policy, even));
    this.verdict.dataset.kind = you && you.kl < Math.min(policy.kl, even.kl) ? "good" : "open";
    this.share.update(rows);
  }
}

const NAMES = { policy: "the policy", static: "static" };
const houseOf = (policy, even) => (policy.kl <= even.kl ? [policy, even] : [even, policy]);

function aimText(policy, even) {
  const [best, other] = houseOf(policy, even);
  return `Your turn: paint, then press Score it. To win, come below ${NAMES[best.name]}, ${fixed(best.kl, 4)} nats; ${NAMES[other.name]} has ${fixed(other.kl, 4)}.`;
}

function verdictText(you, policy, even) {
  const [best, other] = houseOf(policy, even);
  if (you.kl === best.kl) return `As good as ${NAMES[best.name]}, to the last digit. To win, come below it.`;
  if (you.kl < best.kl) return `You win: ${percent(1 - you.kl / best.kl)} less KL than ${NAMES[best.name]}, the better of policy and static.`;
  const lead = `${NAMES[best.name]} has ${percent(1 - best.kl / you.kl)} less KL`;
  return you.kl < other.kl ? `Better than ${NAMES[other.name]}, but ${lead}.` : `Not yet: ${lead}, and ${NAMES[other.name]} beats you too.`;
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
    entry.wins ? h("span", { class: "sol-beats" }, "beats both") : h("span", {}),
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
      headRow(["Scored", ...AXES.map((axis) => axis.name), "KL", "NLL"]),
      h("tbody", {}, inOrder(scores).map((one) => h("tr", {}, h("th", { scope: "row" }, one.label),
        AXES.map((axis, at) => h("td", {}, axis.show(one.actions[row.index][at]))),
        h("td", {}, nats(one.kls[row.index])), h("td", {}, nats(one.nlls[row.index])))))),
    h("div", { class: "sol-card-foot" }, h("span", {},
      `Dense: surprisal ${nats(row.surprisal)}, entropy ${nats(row.entropy)} nats, measured`))];
}
