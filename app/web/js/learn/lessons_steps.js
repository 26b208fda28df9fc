// Steps 2 and 8 of the path: every decode step reads as much as the next, and why to spend unevenly.

import { h, setText } from "../shared/dom.js";
import { duration, mean, MISSING, nats, percent, quantity } from "../shared/format.js";
import { pillsField } from "../shared/forms/form_parts.js";
import { dataTable } from "../shared/page_parts.js";
import { quoted } from "../shared/tokens/token_text.js";
import { learnPart, meter, paintScale, PassageView, pickedText } from "./pictures.js";

function stepNodes(result) {
  const { rows } = result;
  const hardest = Math.max(...rows.map((row) => row.surprisal), 1e-3);
  const most = Math.max(...rows.map((row) => row.cost.bytes_read));
  return [
    h("p", { class: "sol-learn-passage" }, h("span", { class: "sol-muted" }, result.prompt),
      rows.map((row) => h("span", {}, row.text))),
    dataTable("Steps", ["Token", "Surprisal, measured", "Read, computed", "Time, measured"],
      rows.map((row) => [pickedText(row.text),
        [meter(row.surprisal / hardest, "is-surprisal"), `${nats(row.surprisal)} nats`],
        [meter(row.cost.bytes_read / most), quantity(row.cost.bytes_read, "B")], duration(row.step_ms)])),
    timesPart(result)];
}

const TIMED_PARTS = { attention: "Attention", mlp: "MLP", head: "Head: all tokens' probabilities",
  other: "Choosing, sampling, the rest" };

function timesPart({ parts: { dense, least }, least: levels }) {
  const ms = ({ ms: { policy, rest, ...reading } }) => ({ ...reading, other: policy + rest });
  const total = (values) => Object.values(values).reduce((sum, one) => sum + one, 0);
  const [bytes, times] = [[dense.bytes, least.bytes], [ms(dense), ms(least)]];
  const row = (name, of) => [name, ...bytes.map((one) => (of(one) ? quantity(of(one), "B") : MISSING)),
    ...times.map((one) => duration(of(one)))];
  const shareOf = (of) => total(of[1]) / total(of[0]);
  const fixedShare = percent((least.bytes.head + least.bytes.attention) / total(dense.bytes));
  return learnPart("Fewer bytes, how much faster?",
    h("p", {}, `The same twelve tokens once more, at the lowest levels there are: ${percent(levels[0])} of `
      + `the attention, ${percent(levels[1])} of the channels, ${levels[2]} bits. A step then reads `
      + `${percent(shareOf(bytes))} of the bytes. Its time, measured, is ${percent(shareOf(times))} of the `
      + "full step's."),
    dataTable("Bytes and times of a step",
      ["Part of a step", "Read, full model", "Read, lowest", "Time, full model", "Time, lowest"],
      [...Object.entries(TIMED_PARTS).map(([part, name]) => row(name, (one) => one[part])),
        row("Whole step", total)]),
    h("p", { class: "sol-hint" }, `Medians of twelve steps. ${timeWords(...[bytes, times].map(shareOf))} `
      + `Attention's weights and a copy of the head are always read: ${fixedShare} of all bytes. `
      + "Finding channels and pages is work, and so is rounding. And a step that waits less for memory "
      + "waits for arithmetic."));
}

const TIED = 0.02; // of the full step's

// What became of a step's time beside its bytes, both as shares of the full step's.
export function timeWords(bytes, time) {
  if (time <= bytes + TIED) {
    const how = time < bytes - TIED ? "more than" : "as much as";
    return `Time fell ${how} bytes, though three things hold it up.`;
  }
  const how = time > 1 + TIED ? "rose although bytes fell"
    : time >= 1 - TIED ? "stayed the same although bytes fell" : "fell less than bytes";
  return `Time ${how}, for three reasons.`;
}

export const LESSON_STEPS = {
  key: "steps",
  picture: () => stepNodes,
  answer: ({ rows }) => {
    const read = rows.toSorted((one, other) => other.surprisal - one.surprisal)
      .map((row) => row.cost.bytes_read);
    if (Math.max(...read) / Math.min(...read) < 1.01) return 2;
    const half = Math.floor(rows.length / 2);
    return mean(read.slice(0, half)) > mean(read.slice(half)) ? 0 : 1;
  },
  said: ({ rows }) => {
    const ranked = rows.toSorted((one, other) => one.surprisal - other.surprisal);
    const [easy, hard] = [ranked[0], ranked.at(-1)];
    return `The easiest token had a [[surprisal]] of ${nats(easy.surprisal)} nats, the hardest `
      + `${nats(hard.surprisal)}. Their steps read ${quantity(easy.cost.bytes_read, "B")} and `
      + `${quantity(hard.cost.bytes_read, "B")}.`;
  },
};

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
