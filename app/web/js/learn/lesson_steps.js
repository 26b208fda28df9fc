// Step 2 of the path: what a decode step is, and that every one reads as much as the next.

import { h } from "../shared/dom.js";
import { duration, mean, MISSING, nats, percent, quantity } from "../shared/format.js";
import { dataTable } from "../shared/page_parts.js";
import { learnPart, meter, pickedText } from "./pictures.js";

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
