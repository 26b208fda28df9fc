// The head of the page: the link past it, the choice of theme, and the tabs' tie to the address.

import { fill, setText, whenThemeChanges } from "./shared/dom.js";
import { memory } from "./shared/memory.js";
import { askedFor, emit, LAB_VIEWS, listen, roomOf, setAddress, tabOf } from "./shared/tabs.js";
import { explainTerms } from "./shared/tips.js";

// trigger: Gradio's; it lets Python's layout bring the tab in `data-tab` to the front.
export function mount(root, trigger, { tabs }) {
  explainTerms();
  root.querySelector(".sol-skip").addEventListener("click", skip);
  tieTabKeys();
  tieTheme(root.querySelector("button"));
  tieTabs(tabs, (name) => {
    root.dataset.tab = name;
    trigger("select", {});
  });
}

function skip(event) {
  event.preventDefault();
  const panel = [...document.querySelectorAll('[role="tabpanel"]')].find((one) => one.checkVisibility());
  const tab = document.querySelector('[role="tab"][aria-selected="true"]');
  fill(panel, { tabindex: -1, "aria-label": tab?.textContent }, []);
  /** @type {HTMLElement} */ (panel).focus();
}

// The choice of theme is kept in the browser; without one, the system's is followed.
function tieTheme(button) {
  const isDark = () => document.body.classList.contains("dark");
  const label = () => {
    setText(button, isDark() ? "Light" : "Dark");
    button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
  };
  const chosen = [askedFor("__theme"), memory.get("theme")].find((name) => ["light", "dark"].includes(name));
  if (chosen) document.body.classList.toggle("dark", chosen === "dark");
  label();
  whenThemeChanges(label);
  button.addEventListener("click", () => {
    const dark = !isDark();
    document.body.classList.toggle("dark", dark);
    memory.set("theme", dark ? "dark" : "light");
  });
}

// The room of the address is in front. The Lab comes back with the view that it showed last.
function tieTabs(rooms, bring) {
  let [view] = LAB_VIEWS;
  const show = () => {
    if (roomOf() === "lab") view = tabOf();
    bring(rooms.includes(roomOf()) ? roomOf() : rooms[0]);
    emit("tab-shown");
  };
  addEventListener("popstate", show);
  listen("show-tab", show);
  document.addEventListener("sol-tab-shown", (event) => {
    const room = /** @type {CustomEvent} */ (event).detail;
    if (room !== roomOf()) setAddress({ tab: room === "lab" ? view : room }, true);
    emit("tab-shown");
  });
  if (roomOf() !== rooms[0]) show();
}

// Keys of Gradio's tabs, each a stop of Tab there: one stop, arrows from tab to tab; Enter shows the focused.
// The tabs may come later than the page's head, and Gradio makes them anew when some fit no longer.
function tieTabKeys() {
  const head = /** @type {HTMLElement | null} */ (document.querySelector(".tab-wrapper"));
  if (!head) {
    setTimeout(tieTabKeys, 50);
    return;
  }
  const tabs = () => /** @type {HTMLElement[]} */ ([...head.querySelectorAll("[role=tab]")]);
  const stopAtOne = () => {
    const all = tabs();
    const stop = all.find((tab) => tab.ariaSelected === "true") ?? all[0];
    all.forEach((tab) => { tab.tabIndex = tab === stop ? 0 : -1; });
  };
  new MutationObserver(stopAtOne).observe(head,
    { subtree: true, childList: true, attributeFilter: ["aria-selected"] });
  head.addEventListener("keydown", (event) => {
    const all = tabs();
    const at = all.findIndex((tab) => tab === event.target);
    if (at < 0) return;
    const next = { Home: 0, End: -1, ArrowLeft: at - 1, ArrowRight: (at + 1) % all.length }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    all.at(next)?.focus();
  });
  stopAtOne();
}
