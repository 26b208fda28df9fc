// Exported pages also show other runs: a JSON document that is chosen, dropped, or named by ?run=ADDRESS.

import { h, messageOf, setText } from "../shared/dom.js";
import { filePicker, takeDrops } from "../shared/forms/form_parts.js";
import { sharedHead, sharedSettings, sharedView } from "./shared_parts.js";

const asked = (name) => new URLSearchParams(location.search).get(name);

// A JSON document as ``app/runs/views.py`` makes a view of its run. part: "run" or "inspection".
function viewOf(document, part) {
  const format = `sol-explorer-${part}`;
  if (document?.format !== format || document.version !== 1) {
    throw new Error(`This page shows documents of the format ${format}, version 1.`);
  }
  const { prefill, summary, start, end, text, ...run } = document[part];
  const first = prefill ?? start ?? null;
  return { live: false, stopping: false, place: null, reading: null, warning: null, more: false,
    rows: document.events ?? document.tokens, status: run.status, error: run.error, prefill: first,
    summary: summary ?? end ?? null, pages: first?.page_texts ?? [],
    run: { kind: part, prompt: text, settings: null, parent: null, ...run } };
}

// Shows the page's own run, and others that are opened. partsOf(stage): parts for its build.
export async function showRuns(root, part, makeStage, words, partsOf = (stage) => ({})) {
  const said = h("p", { class: "sol-hint", role: "status" });
  const take = (file) => open(() => file.text());
  root.classList.toggle("is-text", asked("view") === "text");
  let shown;

  const own = await sharedView();
  root.classList.toggle("is-notebook", own.look === "notebook");

  function draw(view) {
    root.replaceChildren();
    const picker = filePicker("Open another run", ".json,application/json", take, "A run as JSON");
    root.append(sharedHead(view.run, h("div", { class: "sol-tools" }, picker, said), view === own));
    const stage = makeStage();
    const place = stage.build(partsOf(stage));
    place.append(sharedSettings(view.run, words));
    root.append(place);
    stage.clear();
    stage.begin(view.run);
    stage.append(view.rows);
    stage.toTop();
    stage.update(view, view.run, null);
    stage.finish(view);
    if (view.seen) stage.seen = view.seen;
    shown = view;
  }

  async function open(read) {
    const before = shown;
    try {
      draw(viewOf(JSON.parse(await read()), part));
      setText(said, "");
    } catch (error) {
      if (before) draw(before);
      setText(said, `Not opened: ${messageOf(error)}`);
    }
  }

  takeDrops(root, take);
  draw(own);
  const address = asked("run");
  if (address) {
    await open(async () => {
      const answer = await fetch(address, { credentials: "omit" });
      if (!answer.ok) throw new Error(`${address} answered ${answer.status}.`);
      return answer.text();
    });
  }
}
