// What if, and the machine: a step under every level, and as a picture.

import { cellsOf, press, records, settled, shown, textOf, textsOf, told } from "./page.mjs";
import { LensPanel } from "../../app/web/js/shared/lens/lens.js";
import { timeWords } from "../../app/web/js/learn/lessons_steps.js";
import { Machine } from "../../app/web/js/shared/machine/machine.js";

told("what if: the choice of every level, the levels by keyboard, the tokens that followed", async (say) => {
  const { look, run } = records();
  const forked = [];
  const lens = new LensPanel(async () => look, { close: () => {}, fork: (index, token) => forked.push([index, token]) });
  shown(lens.element);
  lens.open(run.run, false, run.rows, 2);
  await settled();
  const [attention] = lens.choices.querySelectorAll(".sol-lens-axis");
  say(textOf(attention.querySelector("h3")), cellsOf(attention), attention.querySelectorAll("tr.is-other").length);
  attention.querySelector("button").click();
  say(forked, textOf(lens.choiceNote));
  const [plot, , bits] = lens.curves.querySelectorAll("[role=slider]");
  say(bits.getAttribute("aria-valuetext"));
  press(plot, "Home");
  say(plot.getAttribute("aria-valuetext"));
  press(plot, "ArrowRight");
  say(plot.getAttribute("aria-valuenow"));
  press(plot, "End");
  press(plot, "ArrowRight");
  say(plot.getAttribute("aria-valuenow"));
  say(cellsOf(lens.trails).map((row) => row.slice(1)), cellsOf(lens.trails).map((row) => row[0]));
  say(lens.element.querySelector("img"));
  lens.api = async () => { throw Object.assign(new Error("Busy."), { refused: true }); };
  lens.open(run.run, false, run.rows, 2);
  await settled();
  say(textOf(lens.message), lens.again.hidden, lens.body.hidden);
  lens.open(run.run, true, run.rows, 2);
  say(textOf(lens.state));
});

told("the machine shows a step in words and lights the pages that it read", async (say) => {
  const { run } = records();
  const machine = new Machine({ rows: () => run.rows, mark: (index) => machine.mark(index),
    textOf: (page) => ["The keeper ", "lights\nthe ", "lamp"][page] });
  shown(machine.element);
  for (const [name, colour] of [["track", "#101010"], ["attention", "#f0f0f0"], ["panel", "#202020"]]) {
    machine.field.element.style.setProperty(`--sol-${name}`, colour);
  }
  machine.begin(run.run);
  const { sheet } = machine.field;
  sheet.width = 30 * 20 + 300;
  // Of three pages each of thirty layers reads none, a part, all; two bits a level.
  const bytes = Array.from({ length: 23 }, (_, at) => [0, 1, 2, 3].reduce((byte, place) =>
    byte | (4 * at + place < 90 ? [0, 1, 3][(4 * at + place) % 3] << 2 * place : 0), 0));
  run.rows[1].page_reads = { pages: 3, cells: 3, share: 0.5, levels: btoa(String.fromCharCode(...bytes)) };
  machine.mark(1);
  await settled();
  say(textOf(machine.caption), machine.figure.getAttribute("aria-label"));
  say(textsOf(machine.element, ".sol-machine-choice .sol-value"), textOf(machine.outcome));
  const { image } = machine.field.element;
  const pageAt = (page) => image.data[4 * ((page * 12 + 4) * image.width + 3)];
  say([0, 1, 2].map(pageAt), machine.field.element.written);
  const [back, on] = machine.buttons.children;
  on.click();
  say(machine.at);
  back.click();
  back.click();
  back.click();
  say(machine.at);
  run.rows[3].page_reads = null;
  machine.mark(3);
  await settled();
  say(textOf(machine.caption));
  run.rows[4] = { ...run.rows[4], surprisal: null, text: "<|im_end|>" };
  machine.mark(4);
  await settled();
  say(textOf(machine.outcome).split(" probable")[0]);
});

told("a step whose layers differ is drawn layer by layer", async (say) => {
  const { run } = records();
  const machine = new Machine({ rows: () => run.rows, mark: (index) => machine.mark(index) });
  shown(machine.element);
  machine.begin(run.run);
  const { sheet } = machine.field;
  sheet.width = 3 * 100 + 300;
  const fills = [];
  sheet.fill = (colour, x, y, width, height) => fills.push({ colour, width, height });
  const [keep_by_layer, channels_by_layer] = [[0.25, 0.5, 1], [0.4, 0.7, 1]];
  const lists = { keep_fraction: 7 / 12, keep_by_layer, channel_keep_ratio: 0.7, channels_by_layer };
  run.rows[1] = { ...run.rows[1], page_reads: null, action: { ...run.rows[1].action, ...lists } };
  machine.mark(1);
  await settled();
  const of = (wanted) => fills.filter(({ colour }) => colour === wanted);
  say(sheet.layers, of("attention").slice(0, 3).map(({ height }) => height));
  say(of("channels").slice(1).map(({ width }) => Math.round(width)));
  say(machine.figure.getAttribute("aria-label"));
});

told("a lesson says what became of a step's time, whichever way it went", (say) => {
  for (const time of [1.08, 1.01, 0.7, 0.56, 0.4]) say(timeWords(0.55, time));
});
