// What is going on: a state with its detail, a bar, a sentence. Both pages that run something on
// the model begin their status with it.

import { h, setText, show, smallButton } from "../dom.js";
import { modelName, percent } from "../format.js";
import { say } from "../message.js";

export const STATES = {
  idle: ["Ready", "idle"],
  opening: ["Opening", "wait"],
  queued: ["Waiting", "wait"],
  loading: ["Waiting for the model", "wait"],
  prefill: ["Reading the prompt", "busy"],
  running: ["Generating", "busy"],
  stopping: ["Stopping", "busy"],
  finished: ["Finished", "good"],
  stopped: ["Stopped", "idle"],
  failed: ["Failed", "bad"],
  interrupted: ["Interrupted", "bad"],
};

export class StatusLine {
  // on: {retry(), backToLive()}; states: names of states that differ from the usual ones.
  constructor(on, states = {}, back = "Show the running generation") {
    this.states = { ...STATES, ...states };
    this.pill = h("span", { class: "sol-state", "data-kind": "idle" }, "Ready");
    this.detail = h("span", { class: "sol-detail" });
    this.announce = h("span", { class: "sol-offscreen", role: "status", "aria-live": "polite" });
    this.bar = h("div", { class: "sol-bar", role: "progressbar", "aria-label": "Progress" });
    this.retry = smallButton("Try again", on.retry, { hidden: true });
    this.back = smallButton(back, on.backToLive, { hidden: true });
    this.message = h("p", { class: "sol-message", hidden: true });
    this.head = [this.bar,
      h("div", { class: "sol-status-line" }, this.pill, this.detail, this.back, this.retry,
        this.announce),
      this.message];
  }

  setState(state, detail) {
    const [name, kind] = this.states[state] || [state, "idle"];
    if (this.pill.textContent !== name) setText(this.announce, `${name}. ${detail}`);
    setText(this.pill, name);
    this.pill.dataset.kind = kind;
    setText(this.detail, detail);
  }

  showModel(model) {
    const ready = model.state === "ready";
    if (ready) this.setState("idle", modelText(model));
    else if (model.state === "loading") {
      setText(this.pill, "Loading the model");
      this.pill.dataset.kind = "wait";
      setText(this.detail, modelText(model));
    } else {
      setText(this.pill, "No model");
      this.pill.dataset.kind = "bad";
      setText(this.detail, modelName(model.name));
      this.say(model.message, "bad");
    }
    show(this.retry, model.state === "failed");
    // Takes away only what it said itself: a run that could not be opened stays explained.
    if (model.state !== "failed" && this.modelFailed) this.say(null);
    this.modelFailed = model.state === "failed";
    this.setBar(model.state === "loading" ? model.fraction : null);
  }

  setBar(fraction) {
    this.bar.classList.toggle("is-on", fraction !== null);
    this.bar.style.setProperty("--v", fraction ?? 0);
    this.bar.setAttribute("aria-valuenow", Math.round(100 * (fraction ?? 0)));
  }

  // The sentence that a view's state asks for, if any.
  explain(view) {
    if (view.status === "failed") this.say(view.error, "bad");
    else if (view.warning) this.say(view.warning, "warn");
    else if (view.status === "interrupted") {
      this.say("The server ended before this run did. This is what had been saved.", "warn");
    } else this.say(null);
  }

  say(text, kind) {
    say(this.message, text, kind);
  }
}

export function modelText(model) {
  if (!model) return "";
  if (model.state === "loading") return `${model.message} · ${percent(model.fraction)}`;
  if (model.state === "failed") return model.message;
  const { name, dtype, device, context_length: room } = model.facts;
  return `${modelName(name)} · ${dtype} · ${device} · context ${room.toLocaleString("en")} tokens`;
}
