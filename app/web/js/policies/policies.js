// Puts the Policies page together: the library at the side, the policy on show beside it.

import { askedFor, handOverTo, linkTo, nameInFront, setAddress } from "../shared/address.js";
import { attempt, sendFile } from "../shared/api.js";
import { chip, h, say, show, whenSeen } from "../shared/dom.js";
import { blobOf, saveFile } from "../shared/download.js";
import { emit, listen } from "../shared/events.js";
import { MISSING, modelName, percent, whenText } from "../shared/format.js";
import { ask, askToDelete } from "../shared/forms/form.js";
import { filePicker, textField } from "../shared/forms/form_parts.js";
import { listRow } from "../shared/page_parts.js";
import { policyPanels } from "./policy_view.js";

export class PoliciesPage {
  constructor(root, api) {
    this.root = root;
    this.api = api;
    this.name = nameInFront("policies", () => (askedFor("policy") ? {} : { policy: this.shown ?? null }));
    this.stage = h("div", { class: "sol-stage", hidden: true });
    this.message = h("p", { class: "sol-message", hidden: true });
    this.list = h("ul", { class: "sol-history-list" });
    this.empty = h("p", { class: "sol-history-empty", hidden: true }, "No policies yet. Train one, or import one.");
    this.into = filePicker("Import a zip", ".zip,application/zip", (file) => this.upload(file));
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
    await this.attempt(async () => {
      const { policies, damaged, refusal } = await this.api("all_policies", {});
      this.policies = policies;
      this.damaged = damaged;
      this.isFixed = refusal !== null;
      show(this.into, !this.isFixed);
      if (refusal) this.say(refusal);
      this.drawList();
      await this.open(askedFor("policy") ?? policies[0]?.name);
      this.name();
    });
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
    const { kl, kl_static: klStatic } = policy.measured;
    const recovered = percent(1 - kl / klStatic);
    return listRow({ title: policy.name, href: linkTo({ policy: policy.name }), open, kind: "sol-policy-row",
      link: { "aria-current": policy.name === this.shown && "true" },
      facts: [h("span", {}, modelName(policy.model)), recovered !== MISSING && h("span", {}, `recovers ${recovered}`),
        policy.created && h("time", { datetime: policy.created }, whenText(policy.created))] });
  }

  damagedRow(one) {
    return h("li", { class: "sol-history-row sol-policy-row" }, h("div", {},
      h("span", { class: "sol-history-title" }, one.name),
      h("div", { class: "sol-history-facts" }, h("span", { class: "sol-state", "data-kind": "bad" }, "Damaged"),
        h("span", {}, one.problem))),
    h("div", { class: "sol-tools" }, !this.isFixed && !one.is_shipped && chip("Delete",
      () => this.remove({ name: one.name, uses: "nothing" }), { "aria-label": `Delete: ${one.name}` })));
  }

  async open(name) {
    show(this.stage, Boolean(name));
    if (!name) return;
    await this.attempt(async () => {
      const policy = await this.api("policy_details", { name });
      const isSame = JSON.stringify(policy) === this.drawn;
      this.drawn = JSON.stringify(policy);
      this.shown = policy.name;
      this.drawList();
      if (!isSame) this.stage.replaceChildren(...policyPanels(policy, this.isFixed, this));
    });
  }

  // The library is another: here, and wherever else policies are chosen.
  async changed(name) {
    setAddress({ policy: name });
    this.say(null);
    await this.load();
    this.isOwn = true;
    emit("policies-changed");
    this.isOwn = false;
  }

  use(policy) {
    handOverTo("explore", "use-policy", policy.name);
  }

  evaluate(policy) {
    handOverTo("evaluate", "evaluate-policy", policy.name);
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
    return this.attempt(async () => {
      const { name, data } = await this.api("export_policy", { name: policy.name });
      saveFile(name, blobOf(`data:application/zip;base64,${data}`));
    });
  }

  upload(file) {
    return this.attempt(async () => this.changed((await sendFile("policy", file)).name));
  }

  attempt(work) {
    return attempt(work, (words) => this.say(words, "bad"));
  }

  say(text, kind = "warn") {
    say(this.message, text, kind);
  }
}
