// Looking at a run: tokens and their colours, the card, charts, what was read, pages taken away.

import { fire, HOSTILE, press, records, settled, shown, stageOf, textOf, textsOf, told } from "./page.mjs";
import { StatusLine } from "../../app/web/js/shared/runs/status_line.js";
import { Legend } from "../../app/web/js/shared/tokens/token_stage.js";
import { ReadingMap } from "../../app/web/js/shared/tokens/reading_drawings.js";
import { PageEffects } from "../../app/web/js/shared/tokens/page_effects.js";
import { leastCertain } from "../../app/web/js/shared/tokens/token_stage.js";
import { binOf, colourAxes, klAxis, TokenView } from "../../app/web/js/shared/tokens/token_view.js";

told("colours have a fixed scale, which the legend tells", (say) => {
  const axes = [...colourAxes(), klAxis("KL")];
  const bins = (key, values) => values.map((value) => binOf({ ...axes.find((one) => one.key === key), of: () => value }, {}));
  say(axes.map((axis) => axis.name));
  say(bins("cost", [0.2, 0.5, 0.75, 1, 2, NaN, null]), bins("surprisal", [0, 6, 9]), bins("kl", [-1, 0.5, 1]));
  say(axes[0].of({ cost: { bytes_read: 3 }, dense_cost: { bytes_read: 4 } }));
  const chosen = [];
  const legend = new Legend(axes, (axis, isChosen) => chosen.push([axis.key, isChosen]), "test");
  shown(legend.element);
  const scales = axes.map((axis) => { legend.set(axis.key); return textOf(legend.scale); });
  say(scales, legend.scale.querySelectorAll(".sol-swatch").length);
  legend.inputs.bits.click();
  legend.allow("bits", false, "why not");
  say(chosen.slice(-2), legend.inputs.bits.parentElement.title);
  legend.set("bits");
  say(legend.axis.key);
});

told("a run that waits says for whom, and one that was stopped early that nothing was written", (say) => {
  const line = new StatusLine({});
  shown(...line.head);
  const seen = (view) => {
    line.update({ live: true, cursor: 0, ...view }, null, "Default policy", 0);
    say(textOf(line.pill), textOf(line.detail), textOf(line.announce));
  };
  seen({ status: "queued", position: 2, ahead: "lesson" });
  seen({ status: "queued", position: 1, ahead: "own" });
  seen({ status: "queued", position: 0, ahead: null });
  seen({ status: "running" });
  seen({ status: "stopped", live: false });
  seen({ status: "stopped", live: false, cursor: 3 });
});

told("tokens are laid in lines, coloured, spoken, marked, selected by keyboard and copied as they are", (say) => {
  const { run } = records();
  const calls = [];
  const view = new TokenView(colourAxes(), { enter: (index) => calls.push(index), leave: () => {},
    select: (range) => view.select(range), pick: (index) => calls.push(`pick ${index}`) });
  shown(view.element);
  view.given = 2;
  view.append(run.rows);
  view.append([{ ...run.rows[0], index: 12, text: "\n  " }, { ...run.rows[1], index: 13, text: "אב" }]);
  const [first, second, third, fourth] = view.elements;
  say([first, second, third, fourth].map((one) => one.className.replace("sol-token", "").trim()));
  say(fourth.getAttribute("aria-label"), second.getAttribute("aria-label"), fourth.style.getPropertyValue("--bits"));
  const lines = view.list.querySelectorAll(".sol-line");
  say([...lines].map((line) => [line.children.length > 2, line.style.getPropertyValue("--indent"), line.dir]));
  say(fourth.dataset.bin);
  view.setAxis({ ...klAxis("KL"), of: () => null });
  say(fourth.dataset.bin, view.elements.filter((one) => one.tabIndex === 0).length);
  first.focus();
  press(first, "ArrowRight");
  press(second, "ArrowLeft", { ctrlKey: true });
  say(document.activeElement.solIndex);
  press(second, "ArrowRight", { shiftKey: true });
  press(third, "ArrowRight", { shiftKey: true });
  say(view.range, view.list.querySelectorAll("[aria-selected=true]").length);
  press(fourth, "End");
  say(document.activeElement.solIndex);
  press(document.activeElement, "ArrowRight");
  say(document.activeElement.solIndex);
  press(document.activeElement, "Home");
  press(first, " ");
  say(view.range);
  press(first, " ");
  say(view.range);
  press(first, "Enter");
  say(calls.at(-1));
  view.mark(3);
  view.mark(1);
  say(textsOf(view.list, ".is-marked"));
});

told("a chart's lines can be hidden; what is selected or pointed at in it is so in the text", async (say) => {
  const stage = await stageOf(records().run);
  const { live: [spend], quality } = stage.charts;
  quality.legend.children[0].click();
  await settled();
  say(quality.lines.map((line) => line.id));
  stage.charts.choose("surprisal");
  await settled();
  say(quality.lines.map((line) => line.id));
  const xOf = (token) => ({ clientX: spend.area.left + spend.area.x(token), pointerId: 1 });
  fire(spend.plot, "pointermove", xOf(5.2));
  say(stage.view.marked.solIndex, textsOf(spend.readout, "*"));
  fire(spend.plot, "pointerdown", xOf(3));
  fire(spend.plot, "pointermove", xOf(4));
  fire(spend.plot, "pointerup");
  say(textOf(stage.summary), spend.band.hidden);
  stage.charts.choose("dense");
  const { run: old } = records();
  old.run.config.schedule.budget = { bytes_share: 0.8, bit_width: 16 };
  old.rows.forEach((row) => Object.assign(row,
    { side: [], kl_to_dense: null, parts_ms: null, policy: null, action: old.rows[0].action })); // the static mix
  old.summary.left_at = 32;
  const plain = await stageOf(old);
  say(textOf(plain.status.detail), textOf(plain.status.sentence), textsOf(plain.status.numbers, ".sol-spend-value"));
  say(textOf(plain.status.parts.element), textOf(plain.charts.quality.empty));
});

told("a token's step lights the pages that it read more than others, and a page its readers", async (say) => {
  const { run } = records();
  const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  // Of page 2 step 5 reads all, the others a third; of page 1 everything is read always.
  run.rows.forEach((row, at) => Object.assign(row.page_reads, { pages: 5, share: 0.5, by_page: `/${at === 5 ? "/" : DIGITS[21]}AA/` }));
  const stage = await stageOf(run);
  const { reading } = stage;
  reading.fold(false);
  say([...reading.text.children].map((one) => one.textContent), textOf(reading.text.children[0]));
  stage.mark(5);
  await settled();
  say(textOf(reading.caption), reading.pages.map((page) => page.dataset.read));
  say(reading.strips.paths.looked.getAttribute("d"), reading.strips.element.className);
  fire(reading.pages[1], "pointermove");
  say(textOf(reading.caption), stage.view.elements[5].dataset.read);
  fire(reading.text, "pointerleave");
  reading.map.element.open = true;
  reading.map.draw();
  const { width, height, data } = reading.map.canvas.image;
  say(width, height, [0, 1, 2].map((page) => data[4 * (5 * width + page) + 3]), data[4 * 1 + 3]);
  run.rows[5].page_reads.by_page = `/${DIGITS[23]}AA/`; // hardly more than usual
  reading.recount();
  stage.mark(5);
  await settled();
  say(textOf(reading.caption));
  const { run: dense } = records();
  dense.rows.forEach((row) => Object.assign(row.page_reads, { pages: 5, share: 1, by_page: "" }));
  const all = await stageOf(dense);
  say(textOf(all.reading.caption));
  all.reading.begin(8, ["system You help", " Face\nuser\nWhy", " is it blue?", "\nassistant\n"], 32, [], "Why is it blue?");
  say([...all.reading.apart]);
  dense.rows.forEach((row) => { row.page_reads = null; });
  say((await stageOf(dense)).reading.element.hidden);
});

told("pages taken away: their effect on a step, all of them in turn, refusals", async (say) => {
  const { run } = records();
  const asked = [];
  const answers = {
    leave_out_pages: { pages: [1], nll: 2, nll_change: 1.5, kl: 0.25, choice: { token_id: 9, text: HOSTILE, probability: 0.5 } },
    rank_pages: { count: 2, attention: [0.7, 0.3], correlation: 0.5, effects: [0, 1].map((page) =>
      ({ pages: [page], kl: 0.5 - 0.2 * page, nll: 1, nll_change: 0.5, choice: { token_id: 102, text: " was", probability: 0.5 } })) },
    run_without: { run_id: "without" },
    poll_run: { live: false, more: false, status: "finished", cursor: 2, rows: run.rows.slice(0, 2), run: run.run },
  };
  const effects = new PageEffects({ id: () => "r", at: () => 2, rows: () => run.rows, textOf: (page) => run.pages[page],
    isApart: (page) => page === 0, changed: () => {}, compare: (id) => asked.push(id), ask: async (name, request) => { asked.push([name, request]); return answers[name]; } });
  shown(effects.element);
  say(effects.none.hidden, effects.compare.hidden, effects.answer.hidden);
  effects.toggle(1);
  await settled();
  say(asked.splice(0), textOf(effects.said), textOf(effects.answer));
  effects.compare.click();
  say(asked.pop(), effects.none.hidden);
  effects.toggle(0);
  await settled();
  say(asked[0], textOf(effects.said));
  effects.none.click();
  say([...effects.chosen], textOf(effects.said), effects.answer.hidden);
  effects.which.click();
  await settled();
  say(textOf(effects.said), effects.found);
  answers.rank_pages.effects[1].nll_change = 0.1; // hardly less probable
  effects.which.click();
  await settled();
  say(textOf(effects.said));
  for (const nll of [2, 9]) { // an uncertain word, and one that was hardly expected
    Object.assign(answers.rank_pages.effects[1], { nll, nll_change: 0.5 });
    effects.which.click();
    await settled();
    say(textOf(effects.said), effects.found.best);
  }
  Object.assign(answers.rank_pages.effects[1], { nll: 1, nll_change: 0.1 });
  effects.which.click();
  await settled();
  effects.clear();
  effects.rankSoon(); // the run is opened again
  say(textOf(effects.said), effects.index);
  await settled();
  say([...effects.known.keys()]); // words that say something, in the background
  answers.rank_pages.effects.forEach((one) => { one.kl = 0.001; });
  effects.which.click();
  await settled();
  say(textOf(effects.said));
  asked.length = 0;
  const inspected = new PageEffects({ ...effects.on, compare: undefined });
  inspected.toggle(1); // nothing was generated: no other answer
  await settled();
  say(asked, textOf(inspected.said), inspected.answer.hidden);
  effects.on.ask = async () => { throw Object.assign(new Error("Busy."), { refused: true }); };
  effects.toggle(1);
  await settled();
  say(textOf(effects.said));
});

told("nothing stale is shown of a run before, and no prompt is said to be read that was not", async (say) => {
  const { run } = records();
  const stage = await stageOf(run);
  say(stage.machine.element.hidden);
  stage.clear();
  stage.begin(run.run);
  say(stage.machine.element.hidden);
  const summary = { ...run.summary, reason: "stopped", num_tokens: 0 };
  stage.update({ ...run, status: "stopped", summary }, run.run, null);
  say(textOf(stage.status.detail));
});

told("a map of what was read is drawn again in another theme", async (say) => {
  const map = new ReadingMap({ mark: () => {}, select: () => {} });
  shown(map.element);
  map.element.open = true;
  map.follow(records().run.rows);
  await settled();
  const before = map.canvas.image;
  document.body.classList.toggle("dark");
  await settled();
  say(Boolean(before), map.canvas.image !== before);
});

told("a text's colours tell what was read: of equal actions too", async (say) => {
  const { run } = records();
  run.run.config.schedule = { kind: "static", budget: { bytes_share: 0.9, bit_width: 8 } };
  for (const [apart, ...turns] of [[0.2, 0.9, 0.5], [0.2, 0.9, 0.9], [0.005, 0.9, 0.9]]) {
    run.rows.forEach((row, at) => { row.action = { keep_fraction: turns[at % 2], channel_keep_ratio: 1, bit_width: 16 }; });
    run.rows.forEach((row, at) => { row.cost.bytes_read = row.dense_cost.bytes_read * (at % 2 ? 0.8 : 0.8 + apart); });
    const stage = await stageOf(run);
    say(textOf(stage.legend.note), stage.view.elements.map((one) => one.dataset.bin), textOf(stage.legend.scale));
  }
});

told("the word on show is the least certain one that says something", (say) => {
  const chosen = (...texts) => leastCertain(texts.map((text, index) => ({ index, text, entropy: 9 - index })));
  say(chosen(" with", " They", " the", " Juniper", " horse"), chosen(" of", " 7"), chosen("</some>", " ein"), chosen(" with", "馬"));
});

told("a near tie is called that where answers part, and a verdict on a run that was interrupted is one so far", async (say) => {
  const sentences = [];
  for (const [chance, status] of [[0.4, "finished"], [0.41, "interrupted"]]) {
    const { run } = records();
    run.status = status;
    run.rows.forEach((row, at) => {
      const [choice] = row.top;
      row.side = [{ name: "dense", surprisal: -Math.log(0.37),
        choice: at === 3 ? { token_id: -1, text: " other", probability: chance } : choice }];
    });
    sentences.push(textOf((await stageOf(run)).status.verdict));
  }
  say(sentences);
});

told("a missed forecast is said, about the tokens that it was for", async (say) => {
  const said = async (count, zone) => {
    const { run } = records();
    run.rows = Array.from({ length: count }, (_, index) => ({ ...run.rows[0], index, side: [{ name: "dense",
      surprisal: 1, choice: { ...run.rows[0].top[0], text: " other", ...index === 45 && { token_id: -1 } } }] }));
    const { status } = await stageOf(run);
    status.setEstimate({ zone });
    return textOf(status.spent).split(" · ").at(-1);
  };
  say(await said(40, "same text"), await said(60, "same text"), await said(60, "small changes"), await said(60, "will break"));
});

told("what a run gained and where a broken one went; the token that ends an answer is no word of it", async (say) => {
  const { run } = records();
  run.rows.forEach((row, index) => { row.side = [{ name: "dense", surprisal: 1, choice: { ...row.top[0], token_id: index, text: ` full${index}` } }]; });
  run.rows.at(-1).text = "<|im_end|>";
  const stage = await stageOf(run);
  const { status, view } = stage;
  say(textOf(status.verdict), status.pill.dataset.kind, textOf(status.pill));
  const said = [0.96, 1.3, 0.8].map((times) => {
    status.setEstimate({ times });
    return textOf(status.gain);
  });
  say(said);
  say(view.elements.filter((token) => token.hidden).length);
  press(view.elements[0], "End");
  say(document.activeElement.solIndex, view.rows.length);
  view.append([{ ...run.rows[0], index: 12 }]); // it goes on
  say(view.elements.filter((token) => token.hidden).length);
});
