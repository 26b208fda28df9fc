// What all forms do alike: one that is busy is not sent again, and says why Python refused.

import { NOTHING_LOST, reasonOf } from "../api.js";
import { showText } from "../message.js";

export class Form {
  // A form has `go`, its button, `error`, a line for what went wrong, and send().
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
  setBusy(busy) {
    this.go.disabled = busy;
    this.stopButton.disabled = !busy;
  }
}

// The form of a job. It has `refused`, a line that says why no job may be started, and request().
export class JobForm extends Form {
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
