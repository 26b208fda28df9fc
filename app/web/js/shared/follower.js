// Follows something that goes on in Python, through a server that is gone for a while.

import { isRefusal } from "./api.js";

const RETRY_MS = [500, 1000, 2000, 4000];

export class Follower {
  turn = 0;
  id = null;

  // on: {ask(id), take(answer, its ms) → ms until the next poll or null, lost(error), gone(error): refused}
  constructor(on) {
    this.on = on;
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
  // on: {begin(run), rows(rows), view(view, run), lost(error), gone(error)}
  /** @param {Api} api @param {any} on */
  constructor(api, on) {
    super({ ...on, ask: (id) => api("poll_run", { run_id: id, cursor: this.cursor }),
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
