// The head of a status panel: a state with its detail, a bar, a message.

import { announce, h, say, setText, show, smallButton } from "../dom.js";
import { modelName, percent, roughly } from "../format.js";

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
  bare: ["Stopped before the first token", "idle", "Nothing was written."],
  failed: ["Failed", "bad"],
  gone: ["Not opened", "bad"],
  lost: ["Connection lost", "bad"],
  interrupted: ["Interrupted", "bad"],
};

export function setPill(pill, name, kind) {
  setText(pill, name);
  pill.dataset.kind = kind;
}

export class StateHead {
  pill = h("span", { class: "sol-state", "data-kind": "idle" });
  detail = h("span", { class: "sol-detail" });
  announce = h("span", { class: "sol-offscreen", role: "status", "aria-live": "polite" });
  bar = h("div", { class: "sol-bar", role: "progressbar", "aria-label": "Progress" });

  setBar(fraction) {
    this.bar.classList.toggle("is-on", fraction !== null);
    this.bar.style.setProperty("--v", fraction ?? 0);
    this.bar.setAttribute("aria-valuenow", Math.round(100 * (fraction ?? 0)));
  }
}

export class StatusLine extends StateHead {
  say = (text, kind) => say(this.message, text, kind);
  // on: {retry(), backToLive()}; states: names of states that differ from the usual ones.
  constructor(on, states = {}, back = "Show the running generation") {
    super();
    this.states = { ...STATES, ...states };
    this.retry = smallButton("Try again", on.retry, { hidden: true });
    this.back = smallButton(back, on.backToLive, { hidden: true });
    this.message = h("p", { class: "sol-message", hidden: true });
    this.head = [this.bar, h("div", { class: "sol-status-line" },
      this.pill, this.detail, this.back, this.retry, this.announce), this.message];
  }

  setState(state, detail) {
    const [name, kind] = this.states[state] || [state, "idle"];
    if (this.pill.textContent !== name || state === "queued") announce(this.announce, `${name}. ${detail}`);
    setPill(this.pill, name, kind);
    setText(this.detail, detail);
  }

  showModel(model) {
    const isFailed = model.state === "failed";
    show(this.retry, isFailed);
    // Takes away only what it said itself: a run that could not be opened stays explained.
    if (isFailed || this.modelFailed) this.say(isFailed ? model.message : null, "bad");
    this.modelFailed = isFailed;
    if (model.state !== "ready") {
      setPill(this.pill, isFailed ? "No model" : "Loading the model", isFailed ? "bad" : "wait");
      setText(this.detail, isFailed ? modelName(model.name) : modelText(model));
    } else if (!this.message.matches(".is-bad:not([hidden])")) this.setState("idle", modelText(model));
    this.setBar(model.state === "loading" ? model.fraction : null);
  }

  // view: of a poll; model: the loader's state; words: said once it goes on; done: the share that is done.
  update(view, model, words, done) {
    const state = view.stopping && view.status !== "queued" ? "stopping" : view.status;
    const loading = state === "loading" ? view.model || model : null;
    const { reading } = view;
    const bare = state === "stopped" && !view.cursor;
    this.setState(bare ? "bare" : state, bare ? this.states.bare[2] : state === "queued" ? queueText(view)
      : state === "loading" ? modelText(loading) : reading ? readingText(reading) : words);
    const read = reading && reading.tokens_read / reading.prompt_tokens;
    this.setBar(loading ? loading.fraction : view.live ? read ?? done : null);
    const cut = view.status === "interrupted"
      ? "The server ended before this run did. This is what had been saved." : null;
    if (view.status === "failed") this.say(view.error, "bad");
    else this.say(view.warning || cut, "warn");
  }
}

const AHEAD = { lesson: "A lesson is being measured.", own: "Your earlier request is still running.",
  other: "Another visitor or tab is using the model." };

const queueText = ({ position, ahead }) => (position > 0
  ? `${AHEAD[ahead]} ${position > 1 ? `${position} are before you.` : "You are next."}` : "");

function readingText({ tokens_read: read, prompt_tokens: all, seconds_left: left }) {
  const [some, whole] = [read, all].map((number) => number.toLocaleString("en"));
  return `${some} of ${whole} tokens read, about ${roughly(left)} left`;
}

function modelText(model) {
  if (!model) return "";
  if (model.state === "loading") return `${model.message} · ${percent(model.fraction)}`;
  if (model.state === "failed") return model.message;
  const { name, dtype, device, context_length: room, notes = [] } = model.facts;
  const context = `context ${room.toLocaleString("en")} tokens`;
  return [modelName(name), dtype, device, context, ...notes].join(" · ");
}
