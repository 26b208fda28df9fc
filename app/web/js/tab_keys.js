// Keys of Gradio's tabs, which all are stops of Tab there: one stop, and arrows from tab to tab; Enter shows the one
// that has the focus.

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

// As soon as the tabs are there, which may be later than the page's head.
export function tieTabKeys() {
  const head = /** @type {HTMLElement | null} */ (document.querySelector(".tab-wrapper"));
  if (head) tieTo(head);
  else setTimeout(tieTabKeys, 50);
}

// head: around the tabs; Gradio makes them anew when some fit no longer.
/** @param {HTMLElement} head */
function tieTo(head) {
  /** @returns {HTMLElement[]} */
  const tabs = () => [...head.querySelectorAll("[role=tab]")].map((one) => /** @type {HTMLElement} */ (one));
  const stopAtOne = () => {
    const all = tabs();
    const stop = all.find((tab) => tab.ariaSelected === "true") ?? all[0];
    all.forEach((tab) => { tab.tabIndex = tab === stop ? 0 : -1; });
  };
  new MutationObserver(stopAtOne).observe(head, { subtree: true, childList: true, attributeFilter: ["aria-selected"] });
  head.addEventListener("keydown", (event) => {
    const all = tabs();
    const at = all.findIndex((tab) => tab === event.target);
    if (at < 0) return;
    const next = { Home: 0, End: all.length - 1 }[event.key]
      ?? (event.key in STEPS ? (at + STEPS[event.key] + all.length) % all.length : null);
    if (next === null) return;
    event.preventDefault();
    all[next].focus();
  });
  stopAtOne();
}
