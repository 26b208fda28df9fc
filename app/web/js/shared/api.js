// Calls to Python, in the name of this visitor, and what follows something that goes on there.

import { memory } from "./memory.js";

const NO_ANSWER = "The server does not answer. Try again.";
export const NOTHING_LOST = "The server does not answer. Nothing you typed is lost; try again in a moment.";

// Says of a failed call Python's own words where it refused.
export async function attempt(work, fail, otherwise = NO_ANSWER) {
  try {
    await work();
  } catch (error) {
    fail(isRefusal(error) ? error.message : otherwise);
  }
}

// What is asked, unless the same owner asks anew meanwhile, or is done with asking: then nothing comes of it.
export function newest(owner, asked) {
  const turn = owner.turn = {};
  return new Promise((resolve, reject) => {
    const ifNewest = (settle) => (value) => turn === owner.turn && settle(value);
    asked.then(ifNewest(resolve), ifNewest(reject));
  });
}

/** @param {unknown} error @returns {error is Refusal} */
const isRefusal = (error) => error instanceof Error && "refused" in error;

function visitorId() {
  const known = memory.get("visitor");
  if (known && /^[0-9a-f]{32}$/.test(known)) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const made = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  memory.set("visitor", made);
  return made;
}

// On ZeroGPU Hugging Face's page around this one gives a ticket to whoever asks, so that the GPU's time is
// taken from the visitor's quota. Gradio listens for the offer and asks for its own events.
const TICKET_MS = 2000;

export const paysForGpu = () => Boolean(window.supports_zerogpu_headers) && window.parent !== window;

function zeroGpuHeaders() {
  if (!paysForGpu()) return null;
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => resolve(data);
    setTimeout(() => resolve(null), TICKET_MS);
    window.parent.postMessage("zerogpu-headers", "https://huggingface.co", [port2]);
  });
}

// A call to Python: one object in, one object out; what Python refuses arrives as an Error.
/** @param {Server} server @returns {Api} */
export function makeApi(server) {
  const owner = visitorId();
  return async (name, request) => {
    const ticket = name.startsWith("poll_") ? null : await zeroGpuHeaders();
    return unlessRefused(await server[name]({ owner, zero_gpu_headers: ticket, ...request }));
  };
}

/** What forms offer to choose from. @param {Api} api */
export const choicesOf = (api) => ({
  policies: async () => (await api("list_policies", {})).policies,
  runs: async () => (await api("saved_runs", {})).runs,
});

function unlessRefused(answer) {
  if (answer.refused) throw Object.assign(new Error(answer.refused), { refused: true });
  return answer;
}

// Sends a file of a kind that Python knows; the answer says what became of it.
export async function sendFile(kind, file) {
  const asked = new URLSearchParams({ kind, owner: visitorId(), name: file.name });
  const answer = await fetch(new URL(`gradio_api/sol-upload?${asked}`, document.baseURI),
    { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file });
  if (!answer.ok) throw new Error(NO_ANSWER);
  return unlessRefused(await answer.json());
}

const RETRY_MS = [500, 1000, 2000, 4000];

// Asks about something that goes on in Python, through a server that is gone for a while.
export class Follower {
  turn = 0;
  id = null;

  // on: {ask(id), take(answer, its ms) → ms until the next poll or null, lost(error)?, gone(error): refused}
  constructor(on) {
    this.on = { lost: () => {}, ...on };
  }

  leave() {
    this.turn += 1;
    this.id = null;
    this.wake?.();
  }

  rest(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => { clearTimeout(timer); resolve(null); };
    });
  }

  async follow(id) {
    this.leave();
    const { turn } = this;
    this.id = id;
    let failures = 0;
    while (turn === this.turn) {
      const begin = performance.now();
      let answer = null;
      try {
        answer = await this.on.ask(id);
        failures = 0;
      } catch (error) {
        if (turn !== this.turn) return;
        if (isRefusal(error)) return this.on.gone(error);
        this.on.lost(error);
        await this.rest(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
        failures += 1;
        continue;
      }
      if (turn !== this.turn) return;
      const ms = this.on.take(answer, performance.now() - begin);
      if (ms === null || turn !== this.turn) return;
      if (ms > 0) await this.rest(ms);
    }
  }
}

const POLL_MS = 80;

export class RunFollower extends Follower {
  // on: {rows(rows), view(view, run), gone(error)}, and where it matters begin(run) and lost(error)
  /** @param {Api} api @param {any} on */
  constructor(api, on) {
    super({ begin: () => {}, ...on, ask: (id) => api("poll_run", { run_id: id, cursor: this.cursor }),
      take: (view, ms) => this.take(view, ms) });
  }

  leave() {
    super.leave();
    this.run = null;
    this.cursor = 0;
  }

  take(view, ms) {
    if (view.run && this.cursor === 0 && !this.run) {
      this.run = view.run;
      this.on.begin(view.run);
    }
    // A server that restarted in between may answer with fewer rows than were shown: keep them.
    this.cursor = Math.max(this.cursor, view.cursor);
    if (view.rows.length) this.on.rows(view.rows);
    this.on.view(view, this.run);
    if (view.more) return 0;
    return view.live ? Math.max(POLL_MS - ms, 1) : null;
  }
}
