// Follows one job, once a second. A job that has ended is still looked at now and then: somebody may
// resume it.

import { Follower } from "../follower.js";

const LIVE_POLL_MS = 1000;
const IDLE_POLL_MS = 4000;

export class JobFollower extends Follower {
  // on: {view(answer), lost(error), gone(error)}
  leave() {
    super.leave();
    this.cursor = -1;
    this.sampleStep = null;
  }

  ask(id) {
    return this.api("poll_job", { job_id: id, cursor: this.cursor, sample_step: this.sampleStep });
  }

  take(answer) {
    this.cursor = answer.cursor;
    this.sampleStep = answer.samples?.at(-1)?.step ?? this.sampleStep;
    this.on.view(answer);
    if (answer.more) return 0;
    return answer.job.live && !document.hidden ? LIVE_POLL_MS : IDLE_POLL_MS;
  }
}
