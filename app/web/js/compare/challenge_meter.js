// One axis' budget: how much of it the schedule takes, and what is left in levels.

import { h, setText } from "../shared/dom.js";
import { count, fixed, percent } from "../shared/format.js";

export function meter(axis) {
  const bar = h("span", { class: "sol-meter" });
  const spent = h("span", { class: "sol-value" });
  const rest = h("span", { class: "sol-meter-rest" });
  const made = { over: "", element: h("div", { class: "sol-budget", "data-axis": axis.key },
    h("span", { class: "sol-name" }, axis.name), bar, spent, rest) };
  made.update = (painting, at) => {
    const left = painting.left(at);
    const { steps, levels, limit } = painting;
    const unit = levels[at][1] - levels[at][0];
    const share = painting.used(at) / limit[at];
    bar.style.setProperty("--v", Math.min(share, 1));
    const mean = (value) => (axis.unit === "bit" ? fixed(value / steps, 2) : percent(value / steps, 1));
    setText(spent, `${mean(painting.used(at))} of ${mean(limit[at])}`);
    const moves = count(Math.round(Math.abs(left) / unit), "level");
    setText(rest, left < 0 ? `${moves} over` : left === 0 ? "all spent" : `${moves} left`);
    made.element.classList.toggle("is-over", left < 0);
    made.over = left < 0 ? `${axis.name.toLowerCase()} by ${moves} (${axis.show(-left / steps)} on average)` : "";
  };
  return made;
}
