// Follows one run, about ten times a second.

import { Follower } from "../follower.js";

const POLL_MS = 80;

export class RunFollower extends Follower {
  // on: {begin(run), rows(rows), view(view, run), lost(error), gone(error)}
  leave() {
    super.leave();
    this.run = null;
    this.cursor = 0;
  }

  ask(id) {
    return this.api("poll_run", { run_id: id, cursor: this.cursor });
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
