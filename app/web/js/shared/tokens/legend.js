// The head of the token panel: which axis the colour shows, with its scale in real units, and
// what the three lanes mean.

import { h, uniqueId } from "../dom.js";
import { AXES } from "../format.js";
import { memory } from "../memory.js";
import { SITE } from "../site.js";
import { BIN } from "./tokens.js";

function colourScale(axis) {
  const steps = Array.from({ length: axis.bins ?? SITE.numBins }, (_, bin) =>
    h("span", { class: "sol-token sol-swatch", [axis.attribute ?? BIN]: bin }));
  const top = axis.isOpen ? "≥ " : "";
  return h("span", { class: "sol-scale" },
    h("span", { class: "sol-value" }, axis.show(axis.low)),
    h("span", { class: "sol-scale-steps", "aria-hidden": "true" }, steps),
    h("span", { class: "sol-value" }, top + axis.show(axis.high)));
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
  // key: under which the browser remembers the choice.
  constructor(axes, onAxis, key = "axis") {
    this.key = key;
    const name = uniqueId("axis");
    this.scale = h("div", { class: "sol-scale-place" });
    this.inputs = axes.map((axis) => h("input", { type: "radio", name, value: axis.key,
      onchange: () => this.choose(axis) }));
    this.element = h("div", { class: "sol-legend" },
      h("fieldset", { class: "sol-axis-choice" }, h("legend", {}, "Colour"),
        h("div", { class: "sol-pills is-small" }, axes.map((axis, at) =>
          h("label", { class: "sol-pill" }, this.inputs[at], h("span", {}, axis.name))))),
      this.scale, laneLegend());
    this.axes = axes;
    this.onAxis = onAxis;
    this.set(memory.get(key));
  }

  // The axis of this key, or the first where it cannot be chosen; nothing is remembered.
  set(key) {
    const at = Math.max(this.axes.findIndex((axis, one) => axis.key === key && !this.inputs[one].disabled), 0);
    this.inputs[at].checked = true;
    this.show(this.axes[at]);
  }

  choose(axis) {
    memory.set(this.key, axis.key);
    this.show(axis, true);
  }

  show(axis, isChosen = false) {
    this.axis = axis;
    this.scale.replaceChildren(colourScale(axis));
    this.onAxis(axis, isChosen);
  }

  // Whether an axis can be chosen; where it is chosen and cannot, the first one is.
  allow(key, isAllowed, why) {
    const at = this.axes.findIndex((axis) => axis.key === key);
    this.inputs[at].disabled = !isAllowed;
    this.inputs[at].parentElement.title = isAllowed ? "" : why;
    if (!isAllowed && this.axis.key === key) this.inputs[0].click();
  }
}
