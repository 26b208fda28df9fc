// The address says what is on show: the tab in front, and of each tab what is open in it (a run with
// its token and colours, a job, a policy). A reload, and anyone who gets the address, sees the same.
// All rooms share one address, so each has its own names. The Lab's views are tabs of their own in it.
// Parameters that are not in this table (the theme, a Space's) stay as they are.

import { emit, listen } from "./events.js";

export const TAB_OF = { run: "explore", inspection: "inspect", compare: "explore", train: "train",
  evaluation: "evaluate", accuracy: "accuracy", policy: "policies", lesson: "learn" };
export const LAB_VIEWS = ["train", "evaluate", "accuracy", "policies"];
// Parts of a run's view. Places (token, row, lens) mean something in that run only; colours stay from
// run to run.
export const LOOK_NAMES = {
  run: { token: "token", lens: "lens", colour: "colour" },
  inspection: { token: "inspect-token", row: "inspect-row", lens: "inspect-lens", colour: "inspect-colour" },
  compare: { colour: "compare-colour" },
};
const OURS = ["tab", "search", "kind", "schedule", ...Object.keys(TAB_OF), ...Object.values(LOOK_NAMES).flatMap(Object.values)];

// Names in links that older releases made; they are replaced where such a link is opened.
const FORMER_NAMES = { benchmark: "accuracy" };
const FORMER_TABS = { benchmark: "accuracy", compare: "explore", lab: "train" };
// Names of rooms that are gone, and the tab that such a link opens instead.
const GONE = { challenge: "explore", room: "learn" };

function renewAddress() {
  const url = new URL(window.location.href);
  const { searchParams: asked } = url;
  const tab = asked.get("tab") ?? "";
  if (tab in FORMER_TABS) asked.set("tab", FORMER_TABS[tab]);
  for (const [former, name] of Object.entries(FORMER_NAMES)) {
    const value = asked.get(former);
    if (value === null) continue;
    if (!asked.has(name)) asked.set(name, value);
    asked.delete(former);
  }
  for (const [gone, room] of Object.entries(GONE)) {
    if (!asked.has(gone)) continue;
    asked.delete(gone);
    if (!asked.has("tab")) asked.set("tab", room);
  }
  if (url.href !== window.location.href) window.history.replaceState(window.history.state, "", url.href);
}

renewAddress();

export const askedFor = (name) => new URL(window.location.href).searchParams.get(name);

// The tab of an address: the one it names, else that of the first thing that it opens.
export function tabOf(url = new URL(window.location.href)) {
  const opened = Object.keys(TAB_OF).find((name) => url.searchParams.has(name));
  return url.searchParams.get("tab") ?? TAB_OF[opened] ?? "explore";
}

export function roomOf() {
  return LAB_VIEWS.includes(tabOf()) ? "lab" : tabOf();
}

function put(url, parts) {
  for (const [name, value] of Object.entries(parts)) {
    if (value === null) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  return url;
}

// Changes parts of the address (null takes one away): in place, or as a step that Back undoes. The
// tab stays in front unless another is named, and stands in the address only where it must.
export function setAddress(parts, isStep = false) {
  const url = new URL(window.location.href);
  const tab = parts.tab ?? tabOf(url);
  put(url, { ...parts, tab: null, ...(tab !== "learn" && { lesson: null }) }); // Learn names its step again
  if (tabOf(url) !== tab) url.searchParams.set("tab", tab);
  if (url.href === window.location.href) return;
  window.history[isStep ? "pushState" : "replaceState"](window.history.state, "", url.href);
}

// Names in the address what a tab shows unasked, such as its newest job, once the tab is in front:
// a link then opens the same. parts(): as setAddress takes them. Returns a function that names it now.
export function nameInFront(tab, parts) {
  const name = () => tabOf() === tab && setAddress(parts());
  listen("tab-shown", name);
  return name;
}

// A link to one thing, without whatever else is open here.
export function linkTo(parts) {
  const url = new URL(window.location.href);
  OURS.forEach((name) => url.searchParams.delete(name));
  return put(url, parts).href;
}

// The parts that are left behind with a run, for setAddress.
export function noPlace(part) {
  const { colour, ...places } = LOOK_NAMES[part] ?? {};
  return Object.fromEntries(Object.values(places).map((name) => [name, null]));
}

// Brings a tab to the front.
export function showTab(name) {
  setAddress({ tab: name }, true);
  emit("show-tab", name);
}

// Opens a thing in its tab, which may not be there yet: tabs are made when they are first shown.
// places: of a run, where to look in it.
export function openInTab(part, id, places = {}) {
  setAddress({ ...(id !== askedFor(part) && noPlace(part)), [part]: id, ...places, tab: TAB_OF[part] }, true);
  emit(`open-${part}`, id);
  showTab(TAB_OF[part]);
}
