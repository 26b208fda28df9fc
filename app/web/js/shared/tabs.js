// The tabs: what each shows stands in the address, and they hear of each other by events.
//
// The address names the tab in front and what is open in it. Names of other tabs wait here meanwhile; the
// Lab's views are tabs too. Parameters that are not in this table (the theme, a Space's) stay.

export const TAB_OF = { run: "explore", inspection: "inspect", compare: "explore", train: "train",
  evaluation: "evaluate", accuracy: "accuracy", policy: "policies", lesson: "learn" };
export const LAB_VIEWS = ["train", "evaluate", "accuracy", "policies"];
// Parts of a run's view. Places (token, row, lens) mean something in that run only; colours stay.
export const LOOK_NAMES = {
  run: { token: "token", colour: "colour" },
  inspection: { token: "inspect-token", row: "inspect-row", colour: "inspect-colour" },
  compare: { colour: "compare-colour" },
};
/** The tab of every name. @type {Record<string, string>} */
const OWNERS = { search: "history", ...TAB_OF, ...Object.fromEntries(Object.entries(LOOK_NAMES)
  .flatMap(([part, names]) => Object.values(names).map((name) => [name, TAB_OF[part]]))) };
/** Values of all tabs, by their names. @type {Map<string, string | null>} */
const known = new Map();
const bus = new EventTarget();
const waiting = new Map();

export const emit = (name, detail) => bus.dispatchEvent(new CustomEvent(name, { detail }));
export const listen = (name, heard) =>
  bus.addEventListener(name, (event) => heard(/** @type {CustomEvent} */ (event).detail));

// The newest value of a name waits for a tab, which may not be made yet; whoever takes it has it alone.
export function handOver(name, value) {
  waiting.set(name, value);
  emit(name);
}

export function takeOver(name, use) {
  const look = () => {
    if (!waiting.has(name)) return;
    const value = waiting.get(name);
    waiting.delete(name);
    use(value);
  };
  listen(name, look);
  look();
}

// Links of older releases: their tabs, and their names, each with its new name and, if it changed, value.
const FORMER_TABS = { benchmark: "accuracy", compare: "explore", lab: "train" };
const FORMER = { benchmark: ["accuracy"], challenge: ["tab", "explore"], room: ["tab", "learn"] };

function renewAddress() {
  const url = new URL(window.location.href);
  const { searchParams: asked } = url;
  const tab = asked.get("tab") ?? "";
  if (tab in FORMER_TABS) asked.set("tab", FORMER_TABS[tab]);
  for (const [former, [name, value = asked.get(former)]] of Object.entries(FORMER)) {
    if (value !== null && asked.has(former) && !asked.has(name)) asked.set(name, value);
    asked.delete(former);
  }
  take(url);
  keepInFront(url, tabOf(url));
  changeAddress(url, false);
}

// What an address says; of tabs that are not in front it says nothing, and what was known of them waits.
function take(url) {
  const tab = tabOf(url);
  for (const [name, owner] of Object.entries(OWNERS)) {
    const value = url.searchParams.get(name);
    if (value !== null || owner === tab) known.set(name, value);
  }
}

function keepInFront(url, tab) {
  put(url, Object.fromEntries(Object.entries(OWNERS).map(([name, owner]) =>
    [name, owner === tab ? known.get(name) ?? null : null])));
  if (tabOf(url) !== tab) url.searchParams.set("tab", tab);
}

export const askedFor = (name) =>
  new URL(window.location.href).searchParams.get(name) ?? known.get(name) ?? null;

export function tabOf(url = new URL(window.location.href)) {
  const opened = Object.keys(TAB_OF).find((name) => url.searchParams.has(name));
  return url.searchParams.get("tab") ?? TAB_OF[opened] ?? "explore";
}

export const roomOf = () => (LAB_VIEWS.includes(tabOf()) ? "lab" : tabOf());

function put(url, parts) {
  for (const [name, value] of Object.entries(parts)) {
    if (value === null) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  return url;
}

// Changes parts of the address, null takes one away. The tab stands in it only where it must.
export function setAddress(wanted, isStep = false) {
  const url = new URL(window.location.href);
  const { tab = tabOf(url), ...parts } = wanted;
  take(url);
  for (const [name, value] of Object.entries(parts)) known.set(name, value);
  url.searchParams.delete("tab");
  keepInFront(url, tab);
  changeAddress(url, isStep);
}

function changeAddress(url, isStep) {
  if (url.href === window.location.href) return;
  window.history[isStep ? "pushState" : "replaceState"](window.history.state, "", url.href);
}

addEventListener("popstate", () => take(new URL(window.location.href)));

// Names in the address what a tab shows unasked, such as its newest job, so that a link opens the same.
export function nameInFront(tab, parts) {
  const name = () => tabOf() === tab && setAddress(parts());
  listen("tab-shown", name);
  return name;
}

export function linkTo(parts) {
  const url = new URL(window.location.href);
  ["tab", ...Object.keys(OWNERS)].forEach((name) => url.searchParams.delete(name));
  return put(url, parts).href;
}

// The parts that are left behind with a run, for setAddress.
export function noPlace(part) {
  const { colour, ...places } = LOOK_NAMES[part] ?? {};
  return Object.fromEntries(Object.values(places).map((name) => [name, null]));
}

export function showTab(name) {
  setAddress({ tab: name }, true);
  emit("show-tab", name);
}

export function handOverTo(tab, name, value) {
  handOver(name, value);
  showTab(tab);
}

// Opens a thing in its tab, which is made when it is first shown. places: where to look in a run.
export function openInTab(part, id, places = {}) {
  setAddress({ ...(id !== askedFor(part) && noPlace(part)), [part]: id, ...places, tab: TAB_OF[part] }, true);
  emit(`open-${part}`, id);
  showTab(TAB_OF[part]);
}

renewAddress();
