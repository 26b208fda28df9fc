// Puts the Policies page together: the library at the side; the policy on show, its measurements, its card.

import { attempt, sendFile } from "../shared/api.js";
import { chip, h, opensHere, say, show, smallButton, whenSeen } from "../shared/dom.js";
import { count, isNumber, modelName, quantity, whenText } from "../shared/format.js";
import { ask, askToDelete } from "../shared/forms/form.js";
import { filePicker, textField } from "../shared/forms/form_parts.js";
import { blobOf, heldOutTiles, listRow, saveFile } from "../shared/page_parts.js";
import { VerdictLine } from "../shared/runs/verdict.js";
import {
  askedFor, emit, handOverTo, linkTo, listen, nameInFront, openInTab, setAddress,
} from "../shared/tabs.js";
import { cardNodes } from "./model_card.js";

export class PoliciesPage {
  fail = (words) => say(this.message, words, "bad");
  constructor(root, api) {
    this.root = root;
    this.api = api;
    this.name = nameInFront("policies", () => (askedFor("policy") ? {} : { policy: this.shown ?? null }));
    this.stage = h("div", { class: "sol-stage", hidden: true });
    this.message = h("p", { class: "sol-message", hidden: true });
    this.list = h("ul", { class: "sol-history-list" });
    this.empty = h("p", { class: "sol-history-empty", hidden: true },
      "No policies yet. Train one, or import one.");
    this.into = filePicker("Import a zip", ".zip,application/zip", (file) =>
      attempt(async () => this.changed((await sendFile("policy", file)).name), this.fail));
    root.append(h("div", { class: "sol-grid" },
      h("section", { class: "sol-panel sol-library", "aria-label": "Library" },
        h("header", {}, h("h2", {}, "Policies"), this.into, this.message),
        this.list, this.empty), this.stage));
  }

  async begin() {
    listen("policies-changed", () => this.isOwn || this.load());
    addEventListener("popstate", () => askedFor("policy") && this.open(askedFor("policy")));
    await this.load();
    whenSeen(this.root, () => this.load());
  }

  async load() {
    await attempt(async () => {
      const { policies, damaged, refusal } = await this.api("all_policies", {});
      this.policies = policies;
      this.damaged = damaged;
      this.isFixed = refusal !== null;
      show(this.into, !this.isFixed);
      if (refusal) say(this.message, refusal);
      this.drawList();
      await this.open(askedFor("policy") ?? policies[0]?.name);
      this.name();
    }, this.fail);
  }

  drawList() {
    this.list.replaceChildren(...this.policies.map((policy) => this.row(policy)),
      ...this.damaged.map((one) => this.damagedRow(one)));
    show(this.empty, this.list.childElementCount === 0);
  }

  row(policy) {
    const open = () => {
      setAddress({ policy: policy.name, tab: "policies" }, true);
      this.open(policy.name);
    };
    return listRow({ title: policy.name, href: linkTo({ policy: policy.name }), open, kind: "sol-policy-row",
      link: { "aria-current": policy.name === this.shown && "true" },
      facts: [h("span", {}, modelName(policy.model)),
        policy.created && h("time", { datetime: policy.created }, whenText(policy.created))] });
  }

  damagedRow({ name, problem, is_shipped: isShipped }) {
    return listRow({ title: name, kind: "sol-policy-row",
      facts: [h("span", { class: "sol-state", "data-kind": "bad" }, "Damaged"), h("span", {}, problem)],
      tools: [!this.isFixed && !isShipped && chip("Delete", () => this.remove({ name, uses: "nothing" }),
        { "aria-label": `Delete: ${name}` })] });
  }

  async open(name) {
    show(this.stage, Boolean(name));
    if (!name) return;
    await attempt(async () => {
      const policy = await this.api("policy_details", { name });
      const isSame = JSON.stringify(policy) === this.drawn;
      this.drawn = JSON.stringify(policy);
      this.shown = policy.name;
      this.drawList();
      if (isSame) return;
      this.stage.replaceChildren(
        policyHead(policy, this.isFixed, this), policyEvaluations(policy.evaluations),
        h("details", { class: "sol-panel sol-card-place", open: true }, h("summary", {}, "Model card"),
          h("div", { class: "sol-model-card", dir: "auto" },
            cardNodes(policy.card || "This policy has no model card.", policy.name))));
    }, this.fail);
  }

  async changed(name) {
    setAddress({ policy: name });
    say(this.message, null);
    await this.load();
    this.isOwn = true;
    emit("policies-changed");
    this.isOwn = false;
  }

  rename(policy) {
    const name = textField({ label: "New name", value: policy.name, isRequired: true,
      hint: "Jobs and runs that name the old one still find it." });
    ask(this.root, { title: `Rename ${policy.name}`, yes: "Rename", fields: { name } }, async (values) => {
      const made = await this.api("rename_policy", { name: policy.name, new_name: values.name });
      this.changed(made.name);
    });
  }

  remove(policy) {
    const rest = policy.uses === "nothing" ? "Nothing else names it."
      : `Named by ${policy.uses}: these stay readable, but cannot be repeated.`;
    askToDelete(this.root, `Delete ${policy.name} for good?`, rest, async () => {
      await this.api("delete_policy", { name: policy.name });
      this.changed(null);
    });
  }

  download(policy) {
    return attempt(async () => {
      const { name, data } = await this.api("export_policy", { name: policy.name });
      saveFile(name, blobOf(data, "application/zip"));
    }, this.fail);
  }

}

// isFixed: nobody may change the library; on: {rename, remove, download}, of a policy each.
function policyHead(policy, isFixed, on) {
  const act = (label, name) => smallButton(label, () => on[name](policy));
  const handOver = (label, tab, order) => smallButton(label, () => handOverTo(tab, order, policy.name));
  const own = isFixed || policy.is_shipped ? [] : [act("Rename", "rename"), act("Delete", "remove")];
  const verdict = new VerdictLine();
  verdict.draw([policy.verdict]);
  return h("section", { class: "sol-panel sol-status sol-job", "aria-label": "Policy" },
    h("div", { class: "sol-status-line" }, h("h2", { class: "sol-policy-name" }, policy.name),
      policy.is_shipped && h("span", { class: "sol-muted" }, "came with the program"),
      h("div", { class: "sol-tools" }, handOver("Use in Explore", "explore", "use-policy"),
        handOver("Evaluate", "evaluate", "evaluate-policy"), ...own, act("Export", "download"))),
    verdict.element, h("dl", { class: "sol-tiles is-job" }, heldOutTiles(policy.measured, [
      ["Parameters", quantity(policy.parameters, "").trim(), `${policy.network} network`]])),
    h("p", { class: "sol-job-facts sol-hint" }, policyFacts(policy).map((fact) => h("span", {}, fact)),
      policy.training_job && h("a", { href: linkTo({ train: policy.training_job }),
        onclick: opensHere(() => openInTab("train", policy.training_job)) }, "Its training")));
}

function policyEvaluations(evaluations) {
  const rows = evaluations.map((one) => listRow({
    title: one.verdict?.head ?? `${one.title}: no comparison with static for this policy`,
    href: linkTo({ evaluation: one.id }), open: () => openInTab("evaluation", one.id),
    facts: [one.corpus && h("span", {}, `text ${one.corpus}`),
      isNumber(one.tokens) && h("span", {}, count(one.tokens, "scored token")),
      h("time", { datetime: one.created_at }, whenText(one.created_at))] }));
  return h("section", { class: "sol-panel sol-jobs", "aria-label": "Evaluations" },
    h("header", {}, h("h2", {}, "Evaluations")),
    rows.length ? h("ol", { class: "sol-history-list" }, rows) : h("p", { class: "sol-history-empty" },
      "Not evaluated here yet. Evaluate compares it with static at the same spend."));
}

const policyFacts = (policy) =>
  [`For ${modelName(policy.model)} (fingerprint ${policy.fingerprint.slice(0, 8)})`,
    `quantised at the ${policy.quant_site === "mlp_input" ? "MLP's input" : "MLP's output"}`,
    `pages of ${policy.page_size} tokens`, policy.created && `made ${whenText(policy.created)}`,
    policy.added && `imported ${whenText(policy.added)}`,
    "numbers measured in training, on held-out text"].filter(Boolean);
