// A question in a dialog: words, perhaps some fields, and two answers. A refusal of Python's is said
// inside, and the dialog stays.

import { reasonOf } from "../api.js";
import { button, h, show } from "../dom.js";
import { errorLine, showText } from "../message.js";
import { Fields } from "./form.js";

class Dialog extends Fields {
  constructor(words, answer) {
    super();
    this.answer = answer;
    this.fields = words.fields ?? {};
    this.error = errorLine();
    this.yes = h("button", { class: `sol-button ${words.isDanger ? "is-danger" : "is-primary"}` }, words.yes);
    const no = button(words.no ?? "Cancel", () => this.element.close(), { autofocus: words.isDanger });
    this.element = h("dialog", { class: "sol-dialog", "aria-label": words.title,
      onclose: () => this.element.remove() },
    h("p", {}, h("strong", {}, words.title)), words.text && h("p", {}, words.text),
    h("form", { onsubmit: (event) => this.submit(event) },
      Object.values(words.fields ?? {}).map((one) => one.element), this.error,
      h("div", { class: "sol-actions" }, no, this.yes)));
  }

  async submit(event) {
    event.preventDefault();
    this.yes.disabled = true;
    show(this.error, false);
    try {
      await this.answer(this.values());
      this.element.close();
    } catch (error) {
      showText(this.error, reasonOf(error));
    }
    this.yes.disabled = false;
  }
}

// words: {title, text, yes, no, isDanger, fields: {name: field}}; answer(values) does it.
export function ask(place, words, answer) {
  const dialog = new Dialog(words, answer);
  place.append(dialog.element);
  dialog.element.showModal();
}

// Asks before something is lost for good.
export function askToDelete(place, title, text, remove) {
  ask(place, { title, text, yes: "Delete", isDanger: true }, remove);
}
