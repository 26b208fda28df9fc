// Step 8 of the path: why spend unevenly. The same channels in total, spent in different ways.

import { h, setChildren, setText } from "../shared/dom.js";
import { mean, nats, percent } from "../shared/format.js";
import { pillsField } from "../shared/forms/form_parts.js";
import { dataTable } from "../shared/page_parts.js";
import { quoted } from "../shared/tokens/token_text.js";
import { paintScale, PassageView } from "./pictures.js";

const SPENDERS = { even: "Evenly", policy: "By a policy", hindsight: "In hindsight" };

class SpendPicture {
  element = h("div", { class: "sol-learn-parts" });

  draw(result) {
    this.result = result;
    const byName = Object.fromEntries(result.spenders.map((one) => [one.name, one]));
    const order = Object.keys(SPENDERS).map((name) => byName[name]).filter(Boolean);
    const view = new PassageView(result.tokens, result.first,
      "The passage, coloured by the channels each step kept");
    const paint = () => this.paint(view, choice.get());
    const choice = pillsField({ legend: "Show the channels kept", value: "hindsight", changed: paint,
      choices: Object.fromEntries(order.map((one) => [one.name, SPENDERS[one.name]])) });
    this.note = h("span", { class: "sol-hint" });
    setChildren(this.element,
      dataTable("Spenders", ["Spent", "Channels kept", "KL to the full model", "Of the even loss"],
        order.map(({ name, channels, kl }) => [SPENDERS[name], percent(mean(channels), 1),
          `${nats(mean(kl))} nats`, percent(mean(kl) / mean(byName.even.kl))])),
      h("p", { class: "sol-hint" }, spendNote(result)),
      result.policy && h("p", { class: "sol-message is-warn" }, `Without a policy: ${result.policy}`),
      choice.element, view.element,
      h("p", { class: "sol-learn-caption" }, paintScale(percent(result.levels[0]), "100 %"), this.note));
    paint();
  }

  paint(view, name) {
    const { tokens, first, spenders, levels: [low] } = this.result;
    const { channels, kl } = spenders.find((one) => one.name === name);
    view.paint(channels.map((value) => value - low), 1 - low,
      (at) => `${percent(channels[at])} of the channels, KL ${nats(kl[at])}`);
    const worst = kl.indexOf(Math.max(...kl));
    setText(this.note, `Loses most at ${quoted(tokens[first + worst])}: ${nats(kl[worst])} nats at `
      + percent(channels[worst]));
  }
}

// Why everybody has less or more than the half that was asked for.
function spendNote({ spend, budget, policy }) {
  const asked = `Asked for: ${percent(budget)}. `;
  if (policy) return `${asked}Levels are steps of 5 %, so 24 steps may come out just below it.`;
  return `${asked}The policy cannot foresee the steps and spent ${percent(spend, 1)}; so do the others here.`;
}

const savedShare = ({ spenders }, name) => {
  const [even, other] = ["even", name].map((one) => spenders.find((spender) => spender.name === one));
  return 1 - mean(other?.kl) / mean(even.kl);
};

export const LESSON_SPEND = {
  key: "spend",
  picture: () => new SpendPicture(),
  answer: (result) => {
    const saved = savedShare(result, "hindsight");
    return saved < 0.2 ? 0 : saved <= 0.5 ? 1 : 2;
  },
  said: (result) => {
    const policy = savedShare(result, "policy");
    const hindsight = `Hindsight saves ${percent(savedShare(result, "hindsight"))} of the loss.`;
    if (Number.isNaN(policy)) return hindsight;
    const share = percent(Math.abs(policy));
    return `${hindsight} A trained [[policy]], which must decide before each step, `
      + `${policy >= 0 ? `saves ${share}` : `loses ${share} more`} on these 24 steps.`;
  },
};
