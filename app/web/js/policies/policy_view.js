// The policy on show: what it is, what was measured, its card.

import { linkTo, openInTab } from "../shared/address.js";
import { h, opensHere, smallButton } from "../shared/dom.js";
import { count, fixed, isNumber, largestGap, modelName, nats, percent, quantity, whenText } from "../shared/format.js";
import { listRow, tiles } from "../shared/page_parts.js";
import { cardNodes } from "./model_card.js";

/** Its panels. isFixed: nobody may change the library; on: {use, evaluate, rename, remove, download}, of a policy each. */
export function policyPanels(policy, isFixed, on) {
  return [policyHead(policy, isFixed, on), policyEvaluations(policy.evaluations),
    h("details", { class: "sol-panel sol-card-place", open: true }, h("summary", {}, "Model card"),
      h("div", { class: "sol-model-card", dir: "auto" }, cardNodes(policy.card || "This policy has no model card.", policy.name)))];
}

function policyHead(policy, isFixed, on) {
  const act = (label, name) => smallButton(label, () => on[name](policy));
  const own = isFixed || policy.is_shipped ? [] : [act("Rename", "rename"), act("Delete", "remove")];
  return h("section", { class: "sol-panel sol-status sol-job", "aria-label": "Policy" },
    h("div", { class: "sol-status-line" }, h("h2", { class: "sol-policy-name" }, policy.name),
      policy.is_shipped && h("span", { class: "sol-muted" }, "came with the program"),
      h("div", { class: "sol-tools" }, act("Use in Explore", "use"), act("Evaluate", "evaluate"), ...own,
        act("Export", "download"))),
    h("dl", { class: "sol-tiles is-job" }, tiles(policyTiles(policy))),
    h("p", { class: "sol-job-facts sol-hint" }, policyFacts(policy).map((fact) => h("span", {}, fact)),
      policy.training_job && h("a", { href: linkTo({ train: policy.training_job }),
        onclick: opensHere(() => openInTab("train", policy.training_job)) }, "Its training")));
}

function policyEvaluations(evaluations) {
  const rows = evaluations.map((one) => listRow({ title: evaluationTitle(one), href: linkTo({ evaluation: one.id }),
    open: () => openInTab("evaluation", one.id), facts: [evaluationFacts(one).map((fact) => h("span", {}, fact)),
      h("time", { datetime: one.created_at }, whenText(one.created_at))] }));
  return h("section", { class: "sol-panel sol-jobs", "aria-label": "Evaluations" }, h("header", {}, h("h2", {}, "Evaluations")),
    rows.length ? h("ol", { class: "sol-history-list" }, rows)
      : h("p", { class: "sol-history-empty" }, "Not evaluated here yet. Evaluate compares it with static at the same spend."));
}

function policyTiles({ measured, parameters, network }) {
  const { kl, kl_static: klStatic, nll, nll_static: nllStatic, nll_dense: nllDense } = measured;
  const than = (value) => (isNumber(value) ? `static ${nats(value)}` : "nats per token");
  return [
    ["KL, held out", nats(kl), than(klStatic)],
    ["NLL, held out", nats(nll), isNumber(nllDense) ? `${than(nllStatic)}, full model ${nats(nllDense)}` : than(nllStatic)],
    ["Recovered", percent(1 - kl / klStatic), "of static's loss in KL"],
    ["Largest gap", fixed(largestGap(measured), 2), "points off the budget"],
    ["Parameters", quantity(parameters, "").trim(), `${network} network`],
  ];
}

function policyFacts(policy) {
  return [`For ${modelName(policy.model)} (fingerprint ${policy.fingerprint.slice(0, 8)})`,
    `quantised at the ${policy.quant_site === "mlp_input" ? "MLP's input" : "MLP's output"}`,
    `pages of ${policy.page_size} tokens`, policy.created && `made ${whenText(policy.created)}`,
    policy.added && `imported ${whenText(policy.added)}`, "numbers measured in training, on held-out text"].filter(Boolean);
}

function evaluationTitle(one) {
  if (one.budgets === null) return `${one.title}: no comparison with static for this policy`;
  return `Better than static on ${one.better} of ${count(one.budgets, "budget")}`
    + (isNumber(one.recovered) ? `, recovers ${percent(one.recovered)} of its loss in KL` : "");
}

function evaluationFacts(one) {
  return [isNumber(one.surely) && `interval above 0 on ${one.surely}`, one.corpus && `text ${one.corpus}`,
    isNumber(one.tokens) && count(one.tokens, "scored token")].filter(Boolean);
}
