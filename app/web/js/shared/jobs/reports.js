// All reports of a training, page after page.

/**
 * Hands on every page of reports.
 * @param {Api} api @param {string} id of the job
 * @param {(rows: object[]) => boolean} take false: no more are wanted
 */
export async function allReports(api, id, take) {
  let cursor = -1;
  for (let more = true; more;) {
    const answer = await api("poll_job", { job_id: id, cursor, sample_step: null });
    ({ cursor, more } = answer);
    if (!take(answer.metrics)) return;
  }
}
