// Asks before something is lost for good.

import { h, setText } from "../dom.js";

export class Question {
  // title: what is asked; yes: the word on the button that does it.
  constructor(title, yes) {
    this.text = h("p", {});
    this.element = h("dialog", { class: "sol-dialog", "aria-label": title },
      h("p", {}, h("strong", {}, title)), this.text,
      h("form", { method: "dialog", class: "sol-actions" },
        h("button", { class: "sol-button", value: "keep", autofocus: true }, "Keep it"),
        h("button", { class: "sol-button is-danger", value: "yes" }, yes)));
  }

  ask(text, then) {
    setText(this.text, text);
    this.element.returnValue = "";
    this.element.onclose = () => this.element.returnValue === "yes" && then();
    this.element.showModal();
  }
}
