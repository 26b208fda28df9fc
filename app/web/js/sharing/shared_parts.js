// Parts of every exported page: its data, its head, the settings.

import { h, pageElement } from "../shared/dom.js";
import { blobOf } from "../shared/page_parts.js";
import { count, isNumber, MISSING, modelName } from "../shared/format.js";

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
