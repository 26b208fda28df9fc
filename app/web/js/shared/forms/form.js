// What all forms do alike: one that is busy is not sent again, and says why Python refused.

import { NOTHING_LOST, reasonOf } from "../api.js";
import { showText } from "../message.js";

export class Form {
  /** The button that sends it. @type {HTMLButtonElement} */
  go;
  /** The line that says what went wrong. @type {HTMLElement} */
  error;

  send() {}

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
  /** @type {HTMLButtonElement} */
  stopButton;

  setBusy(busy) {
    this.go.disabled = busy;
    this.stopButton.disabled = !busy;
  }
}

// The form of a job.
export class JobForm extends Form {
  /** @type {{start(request: object): Promise<void>}} */
  on;
  /** @type {Record<string, Pick<Field, "get" | "set">>} */
  fields;
  /** The line that says why no job may be started. @type {HTMLElement} */
  refused;

  /** What is sent. @returns {object} */
  request() {
    return {};
  }

  // Without a number in its box a field's value is null.
  values() {
    return Object.fromEntries(Object.entries(this.fields).map(([name, one]) => {
      const value = one.get();
      return [name, Number.isNaN(value) ? null : value];
    }));
  }

  setValues(values) {
    for (const [name, one] of Object.entries(this.fields)) if (name in values) one.set(values[name]);
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
