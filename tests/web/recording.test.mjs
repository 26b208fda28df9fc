// The opening: a recording that is answered again by the model that is here.

import { read, records, settled, shown, textOf, told } from "./page.mjs";
import { RecordingView } from "../../app/web/js/explore/recording.js";

const recordingOf = (dtype) => read(`../../app/results/measured/recording-${dtype}.json`);

told("of a broken answer a word is looked at, not the space before it", async (say) => {
  const view = new RecordingView(recordingOf("bfloat16-intel"));
  shown(view.element);
  view.choose(view.recording.texts.length - 1);
  await settled();
  say(/^“(space|line break)”/.test(textOf(view.reading.caption)));
});

told("a recording that is exchanged while it runs live runs again, with its own stops", async (say) => {
  const { run: { rows, run } } = records();
  const asked = [];
  const waiting = [];
  const answer = (_, { schedule, share }) => {
    asked.push(`${schedule} ${share}`);
    return new Promise((resolve) => waiting.push(() => resolve({ grid: run.config.grid, rows: rows.slice(0, 2) })));
  };
  const view = new RecordingView(recordingOf("bfloat16-intel"), { answer, own: () => {}, learn: () => {} });
  shown(view.element);
  view.runs.click();
  waiting.shift()();
  await settled();
  say(asked.splice(0), textOf(view.mark));
  view.exchange(recordingOf("float32")); // the model's format has become known
  while (waiting.length) {
    waiting.shift()();
    await settled();
  }
  const { asked: stop } = recordingOf("float32").texts[view.at];
  const own = ["dense 100", `static ${Math.round(100 * stop)}`];
  say(asked.map((one) => own.indexOf(one)), textOf(view.mark), view.live.get(view.at)?.asked === stop);
  say(view.answers.map(({ tokens }) => textOf(tokens)));
});
