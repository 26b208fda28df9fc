// A part of the machine with its words: a caption below it, and all of it for who does not see it.

import { h } from "../dom.js";
import { Field } from "./field.js";

export class Zoom {
  /** @param {import("./sheet.js").Layout} layout */
  constructor(layout) {
    this.field = new Field(layout);
    this.drawing = h("div", { role: "img" }, this.field.element);
    this.caption = h("p", {});
    this.element = h("div", { class: "sol-zoom" }, this.drawing, this.caption);
  }

  // said: the caption; more: what the picture shows besides; shown: the caption's nodes, where it is not plain.
  draw(step, said, more, shown = [said]) {
    this.field.show(step);
    this.caption.replaceChildren(...shown);
    this.drawing.setAttribute("aria-label", `The machine: ${said} ${more}`);
  }
}
