// Asks for one experiment and waits for it: the answer says how many come first, and asking again
// keeps the place. A newer question makes an older one's answer unwelcome.

const ASK_MS = 250;
const LONGEST_ASK_MS = 1000;
const ASK_RETRY_MS = [500, 1000, 2000, 4000];

class Experiment {
  // on: {result(result), waiting(text), failed(message)}
  constructor(api, name, on) {
    Object.assign(this, { api, name, on, turn: 0 });
  }

  stop() {
    this.turn += 1;
  }

  async ask(parameters) {
    const turn = ++this.turn;
    let failures = 0;
    let asked = 0;
    while (turn === this.turn) {
      let answer = null;
      try {
        answer = await this.api("ask_experiment", { experiment: this.name, parameters });
        failures = 0;
      } catch (error) {
        if (turn !== this.turn) return;
        if (error.refused) return this.on.failed(error.message);
        this.on.waiting("The server does not answer; trying again.");
        await wait(ASK_RETRY_MS[Math.min(failures, ASK_RETRY_MS.length - 1)]);
        failures += 1;
        continue;
      }
      if (turn !== this.turn) return;
      if (answer.state === "done") return this.on.result(answer.result);
      if (answer.state === "loading" && answer.model.state === "failed") {
        return this.on.failed(answer.model.message);
      }
      this.on.waiting(waitingText(answer));
      // Less and less often: a class asks from thirty pages at once.
      asked += 1;
      await wait(Math.min(ASK_MS * (1 + Math.max(answer.before ?? 1, asked / 4)), LONGEST_ASK_MS));
    }
  }
}

function waitingText({ state, before, model }) {
  if (state === "loading") {
    return `The model is still loading (${percent(model.fraction)}). The measurement starts by itself; `
      + "the text does not need it.";
  }
  return before > 0 ? `${before} before you. Your turn comes by itself.` : "Measuring…";
}
