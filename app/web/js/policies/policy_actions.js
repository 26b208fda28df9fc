// Actions on policies: a question and a call to Python each.

import { blobOf, saveFile } from "../shared/download.js";
import { ask, askToDelete } from "../shared/forms/dialog.js";
import { textField, toggleField } from "../shared/forms/form_parts.js";
import { sendFile } from "../shared/forms/upload.js";

const TOKEN_HINT = "Only for what is private or yours. Used for this once and kept nowhere; empty: the "
  + "login of this machine (hf auth login).";

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

  tag(policy) {
    const tags = textField({ label: "Tags", value: policy.tags.join(", "),
      hint: "Words with commas between them, for your own order." });
    ask(this.root, { title: `Tags of ${policy.name}`, yes: "Save", fields: { tags } }, async (values) => {
      await this.api("tag_policy", { name: policy.name, tags: values.tags.split(",") });
      this.on.changed(policy.name);
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

  push(policy) {
    const fields = {
      repository: textField({ label: "Repository", placeholder: "owner/name", isRequired: true,
        hint: "A model repository of huggingface.co; made if there is none." }),
      private: toggleField({ label: "Private", hint: "Only you see it, if it is made now." }),
      token: textField({ label: "Token", hint: TOKEN_HINT, isSecret: true }),
    };
    ask(this.root, { title: `Put ${policy.name} on the Hub`, yes: "Push", fields }, async (values) => {
      const { address } = await this.api("push_policy", { name: policy.name, ...values });
      this.on.said(`${policy.name} is at ${address}`);
    });
  }

  pull() {
    const fields = {
      repository: textField({ label: "Repository", placeholder: "owner/name", isRequired: true }),
      revision: textField({ label: "Revision", placeholder: "main", hint: "A branch, tag or commit." }),
      token: textField({ label: "Token", hint: TOKEN_HINT, isSecret: true }),
    };
    ask(this.root, { title: "Take a policy in from the Hub", yes: "Pull", fields,
      text: "Its files are checked before it is stored, and never run." }, async (values) => {
      const { name } = await this.api("pull_policy", values);
      this.on.changed(name);
    });
  }

  async upload(file) {
    const calls = { begin: "begin_policy_import", piece: "policy_import_piece" };
    const { name } = await sendFile(this.api, calls, file, () => {});
    this.on.changed(name);
  }
}
