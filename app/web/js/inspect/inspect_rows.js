// From inspected tokens to the rows that the token view, the card and the charts know: one token
// under one schedule, with the other schedules at its side.

import { modelName } from "../shared/format.js";
import { SITE } from "../shared/site.js";

const DIFFERENCE_TOP = 0.5; // nats; beyond it the colour stays at its strongest
export const STATIC = "static";

// What an inspection's rows are called: "static" → "Static", "policy:NAME" → "Policy NAME".
export function rowName(name) {
  if (name.startsWith("policy:")) return `Policy ${modelName(name.slice("policy:".length))}`;
  return SITE.schedules[name] ?? name;
}

export const rowNames = (run) => ["dense", ...run.config.schedules.map((one) =>
  (one.kind === "policy" ? `policy:${one.policy}` : one.kind))];

// token: as Python gives it; at: which of its rows.
export function rowOf(token, names, at) {
  const { rows, ...shared } = token;
  const { a, s, h: entropy, kl, f, b, p } = rows[at];
  const even = names.indexOf(STATIC);
  return {
    ...shared, a, s, h: entropy, kl, f, b, p, df: rows[0].f, db: rows[0].b, ds: rows[0].s,
    r: false, pm: null,
    vs: even < 0 || even === at ? null : rows[even].s - s,
    side: names.map((name, other) => ({ n: rowName(name), ...rows[other] }))
      .filter((_, other) => other !== at),
  };
}

// Nats that a token cost less (blue) or more (orange) than under static.
export const differenceAxis = {
  key: "difference", name: "vs static", of: (row) => row.vs,
  low: -DIFFERENCE_TOP, high: DIFFERENCE_TOP, bins: SITE.differenceBins,
  attribute: "data-difference",
  show: (value) => `≥ ${Math.abs(value)} nats ${value < 0 ? "lost" : "saved"}`,
};

// A run as the charts and the lens know it, for one row.
export function runOfRow(run, at) {
  const schedule = at === 0 ? { kind: "dense" } : run.config.schedules[at - 1];
  return { ...run, config: { ...run.config, schedule } };
}
