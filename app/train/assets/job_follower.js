// Follows one job: polls with a cursor, hands new reports on, and survives a server that is gone
// for a while. A job that has ended is still looked at now and then: somebody may resume it.

const LIVE_POLL_MS = 1000;
const IDLE_POLL_MS = 4000;
const JOB_RETRY_MS = [500, 1000, 2000, 4000];

class JobFollower {
  // on: {view(answer), lost(), gone(error)}
  constructor(api, on) {
    this.api = api;
    this.on = on;
    this.turn = 0;
    this.jobId = null;
  }

  leave() {
    this.turn += 1;
    this.jobId = null;
    this.kick();
  }

  // Polls at once: something was asked for.
  kick() {
    this.wake?.();
  }

  rest(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => { clearTimeout(timer); resolve(); };
    });
  }

  async follow(jobId) {
    this.leave();
    const { turn } = this;
    this.jobId = jobId;
    let cursor = -1;
    let sampleStep = null;
    let failures = 0;
    while (turn === this.turn) {
      let answer = null;
      try {
        answer = await this.api("poll_job", { job_id: jobId, cursor, sample_step: sampleStep });
        failures = 0;
      } catch (error) {
        if (turn !== this.turn) return;
        if (error.refused) return this.on.gone(error);
        this.on.lost();
        await this.rest(JOB_RETRY_MS[Math.min(failures, JOB_RETRY_MS.length - 1)]);
        failures += 1;
        continue;
      }
      if (turn !== this.turn) return;
      cursor = answer.cursor;
      sampleStep = answer.samples?.at(-1)?.step ?? sampleStep;
      this.on.view(answer);
      if (answer.more) continue;
      await this.rest(answer.job.live && !document.hidden ? LIVE_POLL_MS : IDLE_POLL_MS);
    }
  }
}
