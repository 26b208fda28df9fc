// A question in a dialog: words, perhaps some fields, and two answers. The promise gives the fields'
// values, or null for a no. What Python refuses is said inside, and the dialog stays.

import { reasonOf } from "../shared/api.js";
import { button, h, show } from "../shared/dom.js";
import { errorLine, showText } from "../shared/message.js";

export class Dialog {
  // words: {title, text, yes, isDanger, fields: {name: field}}; answer(values) does it.
  constructor(words, answer) {
    this.answer = answer;
    this.fields = words.fields ?? {};
    this.error = errorLine();
    this.yes = h("button", { class: `sol-button ${words.isDanger ? "is-danger" : "is-primary"}` }, words.yes);
    const no = button("Cancel", () => this.element.close(), { autofocus: words.isDanger });
    this.element = h("dialog", { class: "sol-dialog", "aria-label": words.title,
      onclose: () => this.element.remove() },
    h("p", {}, h("strong", {}, words.title)), words.text && h("p", {}, words.text),
    h("form", { class: "sol-question", onsubmit: (event) => this.submit(event) },
      Object.values(this.fields).map((one) => one.element), this.error,
      h("div", { class: "sol-actions" }, no, this.yes)));
  }

  ask(place) {
    place.append(this.element);
    this.element.showModal();
  }

  async submit(event) {
    event.preventDefault();
    this.yes.disabled = true;
    show(this.error, false);
    const values = Object.fromEntries(Object.entries(this.fields).map(([name, one]) => [name, one.get()]));
    try {
      await this.answer(values);
      this.element.close();
    } catch (error) {
      showText(this.error, reasonOf(error));
    }
    this.yes.disabled = false;
  }
}
