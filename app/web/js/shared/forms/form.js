// Forms: a busy one is not sent again, and a refusal of Python's is said in it.

import { NOTHING_LOST, reasonOf } from "../api.js";
import { button, h } from "../dom.js";
import { errorLine, showText } from "../message.js";

// Named fields with values.
export class Fields {
  /** @type {Record<string, Pick<Field, "get" | "set">>} */
  fields;

  // Without a number in its box a field's value is null.
  values() {
    return Object.fromEntries(Object.entries(this.fields).map(([name, one]) => {
      const value = one.get();
      return [name, Number.isNaN(value) ? null : value];
    }));
  }

  // A field that has neither a value nor a default stays as it is.
  setValues(values, defaults = {}) {
    for (const [name, one] of Object.entries(this.fields)) {
      const value = values[name] ?? defaults[name] ?? values[name];
      if (value !== undefined) one.set(value);
    }
  }
}

export class Form extends Fields {
  /** @type {HTMLElement} */
  element;
  /** The button that sends it. @type {HTMLButtonElement} */
  go;
  error = errorLine();

  send() {}

  changed() {}

  // A form of these parts; `changed` is called at every change in it.
  lay(...parts) {
    const changed = () => this.changed();
    return h("form", { class: "sol-panel sol-controls", novalidate: true, autocomplete: "off",
      onsubmit: (event) => this.submit(event), oninput: changed, onchange: changed }, parts);
  }

  makeGo(text, attributes = {}) {
    return h("button", { type: "submit", class: "sol-button is-primary", ...attributes }, text);
  }

  submit(event) {
    event.preventDefault();
    if (this.go.disabled) return;
    this.fail(null);
    this.send();
  }

  fail(message) {
    showText(this.error, message);
  }
}

// The form of something that runs on the model: it may be stopped.
export class RunForm extends Form {
  /** @type {{stop(): void}} */
  on;
  stopButton = button("Stop", () => this.on.stop(), { disabled: true });

  // Both buttons, and the line for what went wrong.
  actions(text, attributes) {
    this.go = this.makeGo(text, attributes);
    return [h("div", { class: "sol-actions" }, this.go, this.stopButton), this.error];
  }

  setBusy(busy) {
    this.go.disabled = busy;
    this.stopButton.disabled = !busy;
  }
}

// The form of a job.
export class JobForm extends Form {
  /** @type {{start(request: object): Promise<void>}} */
  on;
  /** The line that says why no job may be started. */
  refused = h("p", { class: "sol-message is-warn", hidden: true });

  /** @returns {object} */
  request() {
    return {};
  }

  actions(text) {
    this.go = this.makeGo(text, { disabled: true });
    return [this.refused, h("div", { class: "sol-actions is-single" }, this.go), this.error];
  }

  allow(isAllowed, reason) {
    this.allowed = isAllowed;
    this.go.disabled = !isAllowed;
    showText(this.refused, reason);
  }

  async send() {
    this.go.disabled = true;
    try {
      await this.on.start(this.request());
      this.sent();
    } catch (error) {
      this.fail(reasonOf(error, NOTHING_LOST));
    }
    this.go.disabled = !this.allowed;
  }

  sent() {}
}
