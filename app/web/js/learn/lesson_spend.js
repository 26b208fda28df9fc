// Step 8 of the path: why spend unevenly. The same channels in total, spent in different ways.

import { h, setText } from "../shared/dom.js";
import { mean, nats, percent } from "../shared/format.js";
import { pillsField } from "../shared/forms/form_parts.js";
import { dataTable } from "../shared/page_parts.js";
import { quoted } from "../shared/tokens/token_text.js";
import { paintScale, PassageView } from "./pictures.js";

const SPENDERS = { even: "Evenly", policy: "By a policy", hindsight: "In hindsight" };

function spendNodes(result) {
  const { tokens, first, spenders, levels: [low] } = result;
  const byName = Object.fromEntries(spenders.map((one) => [one.name, one]));
  const names = Object.keys(SPENDERS).filter((name) => name in byName);
  const view = new PassageView(tokens, first, "The passage, coloured by the channels each step kept");
  const note = h("span", { class: "sol-hint" });
  const paint = (name) => {
    const { channels, kl } = byName[name];
    view.paint(channels.map((value) => value - low), 1 - low,
      (at) => `${percent(channels[at])} of the channels, KL ${nats(kl[at])}`);
    const worst = kl.indexOf(Math.max(...kl));
    setText(note, `Loses most at ${quoted(tokens[first + worst])}: ${nats(kl[worst])} nats at `
      + percent(channels[worst]));
  };
  const choice = pillsField({ legend: "Show the channels kept", value: "hindsight", changed: paint,
    choices: Object.fromEntries(names.map((name) => [name, SPENDERS[name]])) });
  paint(choice.get());
  return [
    dataTable("Spenders", ["Spent", "Channels kept", "KL to the full model", "Of the even loss"],
      names.map((name) => [SPENDERS[name], percent(mean(byName[name].channels), 1),
        `${nats(mean(byName[name].kl))} nats`, percent(mean(byName[name].kl) / mean(byName.even.kl))])),
    h("p", { class: "sol-hint" }, spendNote(result)),
    result.policy && h("p", { class: "sol-message is-warn" }, `Without a policy: ${result.policy}`),
    choice.element, view.element,
    h("p", { class: "sol-learn-caption" }, paintScale(percent(low), "100 %"), note)];
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
  picture: () => spendNodes,
  answer: (result) => {
    const saved = savedShare(result, "hindsight");
    return saved < 0.2 ? 0 : saved <= 0.5 ? 1 : 2;
  },
  said: (result) => {
    const policy = savedShare(result, "policy");
    const hindsight = `Hindsight saves ${percent(savedShare(result, "hindsight"))} of the loss.`;
    if (Number.isNaN(policy)) return hindsight;
    const gained = percent(Math.abs(policy));
    return `${hindsight} A trained [[policy]], which must decide before each step, `
      + `${policy >= 0 ? `saves ${gained}` : `loses ${gained} more`} on these 24 steps.`;
  },
};
