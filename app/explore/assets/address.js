// The address says what is on show: the tab in front, and of each tab what is open in it (a run with
// its token and colours, a job, a policy). A reload, and anyone who gets the address, sees the same.
// Parameters that are not in this table (the theme, a Space's) stay as they are.

const TAB_OF = { run: "explore", inspection: "inspect", compare: "compare", challenge: "compare", train: "train",
  evaluation: "evaluate", benchmark: "benchmark", policy: "policies",
  lesson: "learn" };
const OURS = ["tab", ...Object.keys(TAB_OF), "token", "colour"];

const askedFor = (name) => new URL(window.location.href).searchParams.get(name);

// The tab of an address: the one it names, else that of the first thing that it opens.
function tabOf(url = new URL(window.location.href)) {
  const opened = Object.keys(TAB_OF).find((name) => url.searchParams.has(name));
  return url.searchParams.get("tab") ?? TAB_OF[opened] ?? "explore";
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
function setAddress(parts, isStep = false) {
  const url = new URL(window.location.href);
  const tab = parts.tab ?? tabOf(url);
  put(url, { ...parts, tab: null });
  if (tabOf(url) !== tab) url.searchParams.set("tab", tab);
  if (url.href === window.location.href) return;
  window.history[isStep ? "pushState" : "replaceState"](window.history.state, "", url.href);
}

// A link to one thing, without whatever else is open here.
function linkTo(parts) {
  const url = new URL(window.location.href);
  OURS.forEach((name) => url.searchParams.delete(name));
  return put(url, parts).href;
}

const runUrl = (runId) => linkTo({ run: runId });

// Asks Python's layout to bring a tab to the front; `trigger` is Gradio's.
function showTab(trigger, name) {
  setAddress({ tab: name }, true);
  window.solTab = name;
  trigger("select", {});
}

// Opens a thing in its tab, which may not be there yet: tabs are made when they are first shown.
function openInTab(part, id, show) {
  setAddress({ [part]: id, tab: TAB_OF[part] }, true);
  dispatchEvent(new CustomEvent(`sol:open-${part}`, { detail: id }));
  show(TAB_OF[part]);
}

const openInExplore = (runId, show) => openInTab("run", runId, show);
const openInInspect = (id, show) => openInTab("inspection", id, show);

// The run that History handed to a tab, once.
function takeHandedRun(tab) {
  const runId = window.solHandedRun?.[tab];
  if (runId) window.solHandedRun = null;
  return runId;
}
