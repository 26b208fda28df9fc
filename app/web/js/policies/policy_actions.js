// Actions on policies: a question and a call to Python each.

import { sendFile } from "../shared/api.js";
import { blobOf, saveFile } from "../shared/download.js";
import { ask, askToDelete } from "../shared/forms/dialog.js";
import { textField } from "../shared/forms/form_parts.js";

export class PolicyActions {
  // on: {changed(name): the library is another, and this policy is on show (null: the first)}
  constructor(root, api, on) {
    this.root = root;
    this.api = api;
    this.on = on;
  }

  rename(policy) {
    const name = textField({ label: "New name", value: policy.name, isRequired: true,
      hint: "Jobs and runs that name the old one still find it." });
    ask(this.root, { title: `Rename ${policy.name}`, yes: "Rename", fields: { name } }, async (values) => {
      const made = await this.api("rename_policy", { name: policy.name, new_name: values.name });
      this.on.changed(made.name);
    });
  }

  remove(policy) {
    const rest = policy.uses === "nothing" ? "Nothing else names it."
      : `Named by ${policy.uses}: these stay readable, but cannot be repeated.`;
    askToDelete(this.root, `Delete ${policy.name} for good?`, rest, async () => {
      await this.api("delete_policy", { name: policy.name });
      this.on.changed(null);
    });
  }

  async download(policy) {
    const { name, data } = await this.api("export_policy", { name: policy.name });
    saveFile(name, blobOf(`data:application/zip;base64,${data}`));
  }

  async upload(file) {
    const { name } = await sendFile("policy", file);
    this.on.changed(name);
  }
}
