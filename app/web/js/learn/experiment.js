// Asks for one experiment and waits for it: the answer says how many come first, and asking again
// keeps the place. A newer question makes an older one's answer unwelcome.

import { Follower } from "../shared/follower.js";
import { percent } from "../shared/format.js";

const ASK_MS = 250;
const LONGEST_ASK_MS = 1000;

export class Experiment extends Follower {
  // on: {result(result), waiting(text), failed(message)}
  constructor(api, name, on) {
    super(api, { ...on, gone: (error) => on.failed(error.message),
      lost: () => on.waiting("The server does not answer; trying again.") });
    this.name = name;
    this.asked = 0; // times
  }

  leave() {
    super.leave();
    this.asked = 0;
  }

  ask(parameters) {
    return this.api("ask_experiment", { experiment: this.name, parameters });
  }

  take(answer) {
    if (answer.state === "done") {
      this.on.result(answer.result);
      return null;
    }
    if (answer.state === "loading" && answer.model.state === "failed") {
      this.on.failed(answer.model.message);
      return null;
    }
    this.on.waiting(waitingText(answer));
    // Less and less often: a class asks from thirty pages at once.
    this.asked += 1;
    return Math.min(ASK_MS * (1 + Math.max(answer.before ?? 1, this.asked / 4)), LONGEST_ASK_MS);
  }
}

function waitingText({ state, before, model }) {
  if (state === "loading") {
    return `The model is still loading (${percent(model.fraction)}). The measurement starts by itself; `
      + "the text does not need it.";
  }
  return before > 0 ? `${before} before you. Your turn comes by itself.` : "Measuring…";
}
