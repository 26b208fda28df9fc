// From inspected tokens to the rows that the token view, the card and the charts know.

import { SITE } from "../shared/dom.js";
import { AXES, difference, scheduleLabel } from "../shared/format.js";
import { PARTS } from "../shared/runs/status.js";

const DIFFERENCE_TOP = 0.5; // nats; beyond it the colour stays at its strongest
export const STATIC = "static";
export const PAINTED = "painted";

// Names of an inspection's rows: "static" → "Static", "policy:NAME" → "Policy NAME".
export function rowName(name) {
  const [kind, ...policy] = name.split(":");
  return scheduleLabel(kind, policy.join(":"));
}

export const rowNames = (run) => ["dense", ...run.config.schedules.map((one) =>
  (one.kind === "policy" ? `policy:${one.policy}` : one.kind))];

export const AXIS_TERMS = AXES.map((axis) => `[[${axis.term}|${axis.name}]]`);

// A cost's sums over its parts, as a generation's costs have them.
export function totalCost(cost) {
  const sum = (unit) => PARTS.reduce((total, { key }) => total + (cost[`${key}_${unit}`] ?? 0), 0);
  return { flops: sum("flops"), bytes_read: sum("bytes") };
}

export const bytesOf = (tokens, at) =>
  tokens.reduce((sum, { rows }) => sum + totalCost(rows[at].cost).bytes_read, 0);

// The pages that a row's step read, as a run's token has them; a step that read all of them lists none.
const readsOfRow = ({ cached_tokens: cached }, { pages_read: byPage }, size) => size > 0
  ? { pages: byPage?.length || Math.ceil(cached / size), cells: 0, levels: "", share: byPage ? NaN : 1,
    by_page: byPage ?? "" } : null;

/** pageSize: tokens of a page, 0 where the inspection did not record which were read. @returns {Token} */
export function rowOf(token, at, pageSize = 0) {
  const { rows, ...shared } = token;
  const { action, nll, kl, entropy, cost, policy } = rows[at];
  const even = rows.find((row) => row.name === STATIC);
  return {
    ...shared, action, entropy, policy, surprisal: nll, kl_to_dense: kl,
    page_reads: readsOfRow(token, rows[at], pageSize),
    cost: totalCost(cost), dense_cost: totalCost(rows[0].cost),
    dense_surprisal: rows[0].nll, below_static: !even || even === rows[at] ? null : difference(even.nll, nll),
    side: rows.filter((row) => row !== rows[at])
      .map((row) => ({ name: rowName(row.name), surprisal: row.nll })),
  };
}

// Nats that a token cost less (blue) or more (orange) than under static.
export const differenceAxis = {
  key: "difference", name: "vs static", of: (row) => row.below_static,
  low: -DIFFERENCE_TOP, high: DIFFERENCE_TOP, bins: SITE.differenceBins, attribute: "data-difference",
  show: (value) => `≥ ${Math.abs(value)} nats ${value < 0 ? "lost" : "saved"}`,
};

export function runOfRow(run, at) {
  const schedule = at === 0 ? { kind: "dense" } : run.config.schedules[at - 1];
  return { ...run, config: { ...run.config, schedule } };
}
