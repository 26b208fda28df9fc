// The head of the token panel: which axis the colour shows, with its scale in real units, and
// what the lanes mean.

import { h, toggleChip } from "../dom.js";
import { AXES } from "../format.js";
import { pillChoice } from "../forms/form_parts.js";
import { memory } from "../memory.js";
import { SITE } from "../site.js";
import { BIN } from "./tokens.js";

const FULL_SCALE = "fullScale";

// Of steps' cost as a share of dense: from the least, rounded down to 5 %, to all.
export const costSpan = (least) => ({ low: Math.floor(20 * least) / 20, high: 1 });

// span: the values at the scale's ends; beyond them the colour stays as it is there.
export function colourScale(axis, { low, high }) {
  const steps = Array.from({ length: axis.bins ?? SITE.numBins }, (_, bin) =>
    h("span", { class: "sol-token sol-swatch", [axis.attribute ?? BIN]: bin }));
  const [bottom, top] = [low > axis.low ? "≤ " : "", axis.isOpen || high < axis.high ? "≥ " : ""];
  return h("span", { class: "sol-scale" },
    h("span", { class: "sol-value" }, bottom + axis.show(low)),
    h("span", { class: "sol-scale-steps", "aria-hidden": "true" }, steps),
    h("span", { class: "sol-value" }, top + axis.show(high)));
}

function laneLegend() {
  return h("div", { class: "sol-lane-legend" },
    h("span", { class: "sol-muted" }, "Lanes"),
    AXES.map((axis) => h("span", { class: "sol-lane-key", "data-axis": axis.key },
      h("i", { "aria-hidden": "true" }), axis.name)),
    h("span", { class: "sol-muted" }, "full = dense"));
}

// onAxis(axis, isChosen): what the colour shows; isChosen: somebody chose it just now.
export class Legend {
  // key: under which the browser remembers the choice; onStretch(isStretched): where the scale may span the
  // values on show only.
  /** @param {Axis[]} axes @param {(axis: Axis, isChosen: boolean) => void} onAxis @param {(isStretched: boolean) => void} [onStretch] */
  constructor(axes, onAxis, key = "axis", onStretch) {
    this.key = key;
    this.axes = axes;
    this.scale = h("div", {});
    const choice = pillChoice("Colour", axes.map((axis) => [axis.key, axis.name]), (chosen) => this.choose(chosen));
    this.inputs = choice.inputs;
    const stretch = onStretch && toggleChip("Full scale", memory.get(FULL_SCALE) === "1", (isFull) => {
      memory.set(FULL_SCALE, isFull ? "1" : "0");
      onStretch(!isFull);
    }, { title: "Off: the colours span this run's values, from their 5th to their 95th percentile" });
    this.element = h("div", { class: "sol-legend" }, choice.element, this.scale, stretch, laneLegend());
    this.onAxis = onAxis;
    this.axis = axes[0];
    this.set(memory.get(key));
    onStretch?.(memory.get(FULL_SCALE) !== "1");
  }

  // The axis of this key, or the first where it cannot be chosen; nothing is remembered.
  set(key, isChosen = false) {
    this.axis = this.axes.find((one) => one.key === key && !this.inputs[key].disabled) ?? this.axes[0];
    this.inputs[this.axis.key].checked = true;
    this.showSpan(this.axis);
    this.onAxis(this.axis, isChosen);
  }

  choose(key) {
    memory.set(this.key, key);
    this.set(key, true);
  }

  showSpan(span) {
    this.scale.dataset.name = this.axis.name;
    this.scale.replaceChildren(colourScale(this.axis, span));
  }

  // Lets an axis be chosen or not; one that is chosen gives way to the first.
  allow(key, isAllowed, why) {
    this.inputs[key].disabled = !isAllowed;
    this.inputs[key].parentElement.title = isAllowed ? "" : why;
    if (!isAllowed && this.axis.key === key) this.inputs[this.axes[0].key].click();
  }
}
