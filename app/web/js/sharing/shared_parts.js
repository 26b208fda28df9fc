// Parts of every exported page: its data, its head, the settings. Those of runs also show others: a JSON
// document that is chosen, dropped, or named by ?run=ADDRESS.

import { h, messageOf, pageElement, setText } from "../shared/dom.js";
import { count, isNumber, MISSING, modelName } from "../shared/format.js";
import { filePicker, takeDrops } from "../shared/forms/form_parts.js";
import { blobOf } from "../shared/page_parts.js";

export async function sharedView() {
  const packed = blobOf(pageElement("#sol-data").textContent, "application/gzip");
  return new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

// more: controls beside the title; isOwn: the run is the one in this file.
export function sharedHead(run, more, isOwn = true) {
  const made = new Date(run.created_at).toLocaleString([], { dateStyle: "long", timeStyle: "short" });
  return h("header", { class: "sol-header" },
    h("span", { class: "sol-mark", "aria-hidden": "true" }, h("i"), h("i"), h("i")),
    h("div", {}, h("h1", { dir: "auto" }, run.title),
      h("p", {},
        `${modelName(run.model)}, ${made}. Exported from SOL Explorer`,
        isOwn ? "; everything is in this file." : ".")), more);
}

const MOST_ENTRIES = 16; // of a list that is shown: a painted schedule has an action per token

// Every setting by its path; levels of the grid are shortened to their ends, token ids counted.
function settingRows(value, path = "") {
  if (Array.isArray(value) && value.length && (value.every(isNumber) || value.length > MOST_ENTRIES)) {
    const isRising = value.every((one, at) => isNumber(one) && !(one <= value[at - 1]));
    return [[path, isRising ? `${value[0]} to ${value.at(-1)}` : count(value.length, "value")]];
  }
  if (value === null || typeof value !== "object") return [[path, String(value ?? MISSING)]];
  return Object.entries(value).flatMap(([key, item]) => settingRows(item, path ? `${path}.${key}` : key));
}

export const sharedSettings = (run, title) =>
  h("details", { class: "sol-panel sol-shared-settings" }, h("summary", {}, title),
    h("dl", {}, settingRows(run.config).map(([name, value]) =>
      [h("dt", {}, name), h("dd", { dir: "auto" }, value)])));

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
