// Steps 5 and 7 of the path: one step's probabilities while channels of the MLP are left out; and how one
// large number rounds its neighbours to nothing.

import { h, setText, svg } from "../shared/dom.js";
import { count, nats, nearest, percent, probability } from "../shared/format.js";
import { levelSlider } from "../shared/forms/form_parts.js";
import { levelLane } from "../shared/lens/lens.js";
import { Zoom } from "../shared/machine/field.js";
import { endsOf } from "../shared/page_parts.js";
import { quoted } from "../shared/tokens/token_text.js";
import { barRow, learnPart, MlpZoom, pickedText } from "./pictures.js";

const FULL_SCALE = 1; // nats; one for all beginnings, so that a small loss looks small
const LOOKED_AT = 0.7; // of the channels, what the lowest level is set beside

function channelsPicture() {
  const zoom = new MlpZoom();
  return (result) => {
    const { rows, levels, width, layers } = result;
    const bars = h("div", { class: "sol-learn-bars" });
    const numbers = h("p", { class: "sol-learn-state" });
    const line = h("div", { "data-axis": "channels" });
    const full = rows.at(-1);
    const dense = new Map(full.top.map((one) => [one.token_id, one.probability]));
    const values = rows.map((row) => row.kl);
    const slider = levelSlider({ label: "Channels kept", axis: "channels", levels, text: percent, at: 0,
      show: (at) => {
        const { kl, entropy, top, mlp_fractions: fractions, mlp_bytes: bytes } = rows[at];
        setText(numbers, `${Math.ceil(levels[at] * width - 1e-9)} of ${width} channels, KL ${nats(kl)} `
          + `nats, entropy ${nats(entropy)} nats`);
        zoom.show(layers, fractions, bytes / full.mlp_bytes);
        bars.replaceChildren(...top.map(({ token_id: id, text, probability: chance }) =>
          barRow(pickedText(text), chance,
            `${probability(chance)} (full model ${dense.has(id) ? probability(dense.get(id)) : "lower"})`)));
        line.replaceChildren(levelLane({ key: "kl", name: "KL", values, at, full: 0,
          range: [0, Math.max(...values, FULL_SCALE)] }), endsOf(percent(levels[0]), percent(levels.at(-1))));
      } });
    slider.update();
    return [
      h("p", { class: "sol-learn-passage" }, result.prompt, " ", h("span", { class: "sol-learn-gap" }, "?")),
      slider.element, numbers,
      h("section", {}, h("h3", {}, "The machine: what the step read of the MLP"), zoom.element),
      h("div", { class: "sol-learn-columns" },
        h("section", {}, h("h3", {}, "Most probable next tokens"), bars),
        h("section", {}, h("h3", {}, "KL to the full model, by channels kept"), line,
          h("p", { class: "sol-hint" }, endingOf(result))))];
  };
}

function endingOf({ rows, levels }) {
  const near = nearest(levels, LOOKED_AT);
  const changed = rows.filter((row) => row.top[0].token_id !== rows.at(-1).top[0].token_id).length;
  const turns = rows.slice(1).filter((row, at) => row.kl > rows[at].kl).length;
  return `At ${percent(levels[0])}, the lowest level tried here, KL is ${nats(rows[0].kl)} nats; at `
    + `${percent(levels[near])} it is ${nats(rows[near].kl)}. The first guess is another token at ${changed} `
    + `of ${levels.length} levels.`
    + (turns ? ` The line is not smooth: at ${turns === 1 ? "one level" : `${turns} levels`}, keeping more `
      + "channels did worse." : "");
}

export const LESSON_CHANNELS = {
  key: "channels",
  picture: channelsPicture,
  answer: ({ rows }) => {
    const [now, dense] = [rows[0].top[0], rows.at(-1).top[0]];
    if (now.token_id !== dense.token_id) return 2;
    return now.probability > 0.75 * dense.probability ? 0 : 1;
  },
  said: ({ rows }) => {
    const [now, dense] = [rows[0].top[0], rows.at(-1).top[0]];
    return `Under the full model, ${quoted(dense.text)} has ${probability(dense.probability)}. With `
      + `40 % of the channels ${quoted(now.text)} is first, with ${probability(now.probability)}; the `
      + `[[kl|KL]] between the two steps is ${nats(rows[0].kl)} nats.`;
  },
};

const threeDigits = (value) => value.toPrecision(3);

const ASKED = 5; // bits, in the question
const scalesNames = (block) => ({ one: "One scale per token", blocks: `A scale per ${block} channels` });

function bitsPicture() {
  const zoom = new Zoom({ height: 18, lanes: { bits: [1, 16] } });
  return (result) => {
    const { magnitudes, bits, zeros, median, kl, levels, steps, token, layer, layers, block } = result;
    const numZeros = (some) => `${some} of ${magnitudes.length} (${percent(some / magnitudes.length)})`;
    const drawing = h("div", {});
    const numbers = h("p", { class: "sol-learn-state" });
    const slider = levelSlider({ label: "Bits", axis: "bits", levels: bits, at: bits.indexOf(ASKED),
      text: (level) => count(level, "bit"), show: (at) => {
        const spacing = magnitudes[0] / (2 ** (bits[at] - 1) - 1);
        const isRounded = bits[at] < 16;
        const values = 2 ** bits[at] - 1;
        zoom.draw({ bits: bits[at] }, isRounded
          ? `${bits[at]} of 16 bits: each number becomes one of ${values.toLocaleString("en")}.`
          : "All 16 bits: no number is rounded.", "A gauge of 16 parts.");
        setText(numbers, isRounded
          ? `${values} values, ${threeDigits(spacing)} apart: what is smaller than half of that, `
            + `${threeDigits(spacing / 2)}, becomes 0. These are ${numZeros(zeros[at])}; the middle number `
            + `is ${threeDigits(median)}. With a scale per ${block} channels it is `
            + numZeros(result.block_zeros[at])
          : "16 bits leave the numbers as they are");
        drawing.replaceChildren(magnitudeDrawing(magnitudes, isRounded ? spacing / 2 : 0));
      } });
    slider.update();
    const most = Math.max(...Object.values(kl).flat(), 1e-3);
    return [
      h("p", {}, "The output of layer ", h("b", {}, `${layer} of ${layers}`), " for the token ",
        pickedText(token),
        `: ${magnitudes.length} numbers, largest first; each grid line is ten times the one below.`),
      slider.element, zoom.element, drawing, numbers,
      learnPart("What it does to the predictions",
        h("p", { class: "sol-hint" },
          `Mean KL to the full model of the passage's last ${count(steps, "step")}, nats.`),
        h("div", { class: "sol-learn-columns" }, Object.entries(scalesNames(block)).map(([scales, name]) =>
          h("section", {}, h("h4", {}, name), h("div", { class: "sol-learn-bars", "data-axis": "bits" },
            kl[scales].map((value, at) => barRow(count(levels[at], "bit"), value / most, nats(value))))))))];
  };
}

// Magnitudes on a logarithmic axis; below `limit` they round to 0.
function magnitudeDrawing(magnitudes, limit) {
  const high = Math.log10(magnitudes[0]);
  const low = Math.min(high - 3, Math.log10(Math.max(magnitudes[Math.floor(0.9 * magnitudes.length)], 1e-6)));
  const above = (value) => Math.max(Math.log10(Math.max(value, 1e-9)) - low, 0);
  const y = (value) => (98 - (94 * above(value)) / (high - low)).toFixed(2);
  const x = (at) => ((100 * at) / magnitudes.length).toFixed(2);
  const edge = magnitudes.map((value, at) => `${x(at)} ${y(value)}`).join("L");
  const lines = [];
  for (let power = Math.ceil(low); power <= high; power += 1) lines.push(`M0 ${y(10 ** power)}H100`);
  const kept = magnitudes.filter((value) => value >= limit).length;
  return svg("svg", { class: "sol-learn-magnitudes", viewBox: "0 0 100 100", preserveAspectRatio: "none",
    "aria-hidden": "true", "data-axis": "bits" },
    svg("path", { class: "is-grid", d: lines.join("") }),
    svg("path", { class: "is-area", d: `M0 98L${edge}L100 98Z` }),
    limit > 0 && svg("path", { class: "is-zero", d: `M${x(kept)} 4H100V98H${x(kept)}Z` }),
    limit > 0 && svg("path", { class: "is-limit", d: `M0 ${y(limit)}H100` }));
}

const ZERO_BOUNDS = [0.05, 0.5]; // parts of the numbers between the three answers

export const LESSON_BITS = {
  key: "bits",
  picture: bitsPicture,
  answer: ({ zeros, bits, magnitudes }) => {
    const fraction = zeros[bits.indexOf(ASKED)] / magnitudes.length;
    return ZERO_BOUNDS.filter((bound) => fraction >= bound).length;
  },
  said: ({ zeros, bits, block_zeros: blockZeros, block, magnitudes, median, kl, levels }) => {
    const [at, level] = [bits.indexOf(ASKED), levels.indexOf(ASKED)];
    return `${zeros[at]} of ${magnitudes.length}: the largest number is ${threeDigits(magnitudes[0])}, the `
      + `middle one ${threeDigits(median)}. With a scale of its own for every ${block} numbers it is `
      + `${blockZeros[at]}, and the steps' [[kl|KL]] to the full model is ${nats(kl.blocks[level])} nats `
      + `instead of ${nats(kl.one[level])}.`;
  },
};
