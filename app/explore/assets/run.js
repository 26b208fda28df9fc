// Follows one run: polls with a cursor about ten times a second, hands new rows on, and survives a
// server that is gone for a while. Following another run ends the first quietly.

const POLL_MS = 80;
const RETRY_MS = [500, 1000, 2000, 4000];

class RunFollower {
  // on: {begin(run), rows(rows), view(view, run), lost(error), gone(error)}
  constructor(api, on) {
    this.api = api;
    this.on = on;
    this.turn = 0;
    this.runId = null;
  }

  leave() {
    this.turn += 1;
    this.runId = null;
    this.run = null;
  }

  async follow(runId) {
    this.leave();
    const { turn } = this;
    this.runId = runId;
    let cursor = 0;
    let failures = 0;
    while (turn === this.turn) {
      const begin = performance.now();
      let view = null;
      try {
        view = await this.api("poll_run", { run_id: runId, cursor });
        failures = 0;
      } catch (error) {
        if (turn !== this.turn) return;
        if (error.refused) return this.on.gone(error);
        this.on.lost(error);
        await wait(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
        failures += 1;
        continue;
      }
      if (turn !== this.turn) return;
      cursor = this.take(view, cursor);
      if (!view.live && !view.more) return;
      if (!view.more) await wait(POLL_MS - (performance.now() - begin));
    }
  }

  take(view, cursor) {
    if (view.run && cursor === 0 && !this.run) {
      this.run = view.run;
      this.on.begin(view.run);
    }
    // A server that restarted in between may answer with fewer rows than were shown: keep them.
    if (view.rows.length) this.on.rows(view.rows);
    this.on.view(view, this.run);
    return Math.max(cursor, view.cursor);
  }
}
