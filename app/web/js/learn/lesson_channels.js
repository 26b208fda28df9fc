// Step 5 of the path: the MLP's channels; one step's probabilities while channels are left out.

import { h, setText } from "../shared/dom.js";
import { count, nats, percent, probability } from "../shared/format.js";
import { levelSlider } from "../shared/forms/form_parts.js";
import { levelLane } from "../shared/lens/lens_parts.js";
import { endsOf, nearest } from "../shared/levels.js";
import { quoted } from "../shared/tokens/token_text.js";
import { barRow, MlpZoom, pickedText } from "./pictures.js";

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
  return `At ${percent(levels[0])}, the lowest level there is, KL is ${nats(rows[0].kl)} nats; at `
    + `${percent(levels[near])} it is ${nats(rows[near].kl)}. The first guess is another token at ${changed} `
    + `of ${levels.length} levels.`
    + (turns ? ` The line is not smooth: at ${count(turns, "level")} more channels did worse.` : "");
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
