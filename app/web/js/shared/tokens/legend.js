// The head of the token panel: what the colour shows, with its scale, and what the lanes mean.

import { h, SITE } from "../dom.js";
import { AXES } from "../format.js";
import { pillsField } from "../forms/form_parts.js";
import { memory } from "../memory.js";
import { BIN } from "./tokens.js";

// A scale is fixed, so that a colour means the same in every run; beyond its ends the colour stays the same.
export function colourScale(axis) {
  const steps = Array.from({ length: axis.bins ?? SITE.numBins }, (_, bin) =>
    h("span", { class: "sol-token sol-swatch", [axis.attribute ?? BIN]: bin }));
  return h("span", { class: "sol-scale" },
    h("span", { class: "sol-value" }, (axis.isOpenBelow ? "≤ " : "") + axis.show(axis.low)),
    h("span", { class: "sol-scale-steps", "aria-hidden": "true" }, steps),
    h("span", { class: "sol-value" }, (axis.isOpen ? "≥ " : "") + axis.show(axis.high)));
}

function laneLegend() {
  return h("div", { class: "sol-lane-legend", title: "Full width: as much as the full model" },
    h("span", { class: "sol-muted" }, "Lanes"),
    AXES.map((axis) => h("span", { class: "sol-lane-key", "data-axis": axis.key },
      h("i", { "aria-hidden": "true" }), axis.name)));
}

// onAxis(axis, isChosen): what the colour shows; isChosen: somebody chose it just now.
export class Legend {
  isEven = false; // every token has one colour

  /** @param {Axis[]} axes @param {(axis: Axis, isChosen: boolean) => void} onAxis */
  constructor(axes, onAxis, key = "axis") {
    this.axes = axes;
    this.scale = h("div", {});
    this.note = h("span", { class: "sol-muted" });
    const choice = pillsField({ legend: "Colour", isSmall: true,
      choices: Object.fromEntries(axes.map((axis) => [axis.key, axis.name])),
      changed: (chosen) => {
        memory.set(key, chosen);
        this.set(chosen, true);
      } });
    this.inputs = choice.inputs;
    this.element = h("div", { class: "sol-legend" }, choice.element, this.scale, this.note, laneLegend());
    this.onAxis = onAxis;
    this.axis = axes[0];
    this.set(memory.get(key));
  }

  // The axis of this key, or the first where it cannot be chosen; nothing is remembered.
  set(key, isChosen = false) {
    this.axis = this.axes.find((one) => one.key === key && !this.inputs[key].disabled) ?? this.axes[0];
    this.inputs[this.axis.key].checked = true;
    this.scale.dataset.name = this.axis.name;
    this.scale.replaceChildren(colourScale(this.axis));
    this.onAxis(this.axis, isChosen);
  }

  // Lets an axis be chosen or not; one that is chosen gives way to the first.
  allow(key, isAllowed, why) {
    this.inputs[key].disabled = !isAllowed;
    this.inputs[key].parentElement.title = isAllowed ? "" : why;
    if (!isAllowed && this.axis.key === key) this.inputs[this.axes[0].key].click();
  }
}
