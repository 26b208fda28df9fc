// The corpus picker: built-in text, an uploaded file, a Hub data set, a path on one's own machine.

import { attempt, sendFile } from "../shared/api.js";
import { chip, errorLine, h, optionsOf, selectOf, show, showText, SITE } from "../shared/dom.js";
import { quantity } from "../shared/format.js";
import { filePicker, pillsField } from "../shared/forms/form_parts.js";

const { suffixes = [], maxUploadBytes = 0 } = SITE;
const CORPUS_KINDS = { builtin: "Built-in", upload: "Your file", hub: "Hub",
  ...(!SITE.isShared && { path: "Path" }) };
const CORPUS_MEANINGS = {
  builtin: "English prose from reading-comprehension sets; works without a network.",
  upload: "Plain text, or a table with a text column. One document in ten is held out.",
  hub: "A data set of huggingface.co, streamed while it is read: needs the network.",
  path: "A file or folder on this computer, by its full path; it is read where it lies.",
};

export class CorpusPicker {
  fail = (words) => showText(this.message, words);

  constructor(api) {
    this.api = api;
    this.kind = pillsField({ legend: "Text", choices: CORPUS_KINDS, meanings: CORPUS_MEANINGS });
    this.files = selectOf([], { "aria-label": "Uploaded file" });
    this.add = filePicker("Upload a file", suffixes.join(","), (file) => this.upload(file), "File to upload");
    this.drop = chip("Delete", () => this.remove(), { "aria-label": "Delete this file" });
    this.bar = h("progress", { class: "sol-progress", hidden: true, "aria-label": "Upload" });
    this.message = errorLine();
    const name = (placeholder, spoken) => h("input",
      { type: "text", class: "sol-input", spellcheck: "false", placeholder, "aria-label": spoken });
    this.names = { hub: name("owner/name or owner/name:config", "Hub data set"),
      path: name("/home/you/texts", "Path of the text") };
    this.upRow = h("div", { class: "sol-upload" }, this.files,
      h("div", { class: "sol-upload-tools" }, this.add, this.drop,
        h("span", { class: "sol-hint" }, `${suffixes.join(" ")}, up to ${maxUploadBytes / 1024 ** 2} MB`)),
      this.bar);
    this.element = h("div", { class: "sol-corpus" }, this.kind.element, this.upRow,
      Object.values(this.names), this.message);
    this.element.addEventListener("change", () => this.changed());
    this.set({ kind: "builtin", name: "" });
  }

  get() {
    const kind = this.kind.get();
    return { kind, name: kind === "upload" ? this.files.value : this.names[kind]?.value ?? "" };
  }

  set({ kind, name }) {
    this.kind.set(kind in CORPUS_KINDS ? kind : "builtin");
    if (kind in this.names) this.names[kind].value = name;
    if (kind === "upload") this.wanted = name;
    this.changed();
    this.refresh();
  }

  changed() {
    const kind = this.kind.get();
    show(this.upRow, kind === "upload");
    Object.entries(this.names).forEach(([name, input]) => show(input, name === kind));
    if (this.files.value) this.wanted = this.files.value;
  }

  // Where that fails, the list stays as it was; starting will say what is wrong.
  refresh() {
    return attempt(async () => this.list((await this.api("list_corpora", {})).files), () => {});
  }

  list(files) {
    const options = files.map((file) => [file.name, `${file.name} (${quantity(file.bytes, "B")})`]);
    this.files.replaceChildren(...optionsOf(options.length ? options : [["", "No file yet"]]));
    if (files.some((file) => file.name === this.wanted)) this.files.value = this.wanted;
    this.drop.disabled = this.files.disabled = files.length === 0;
  }

  async upload(file) {
    this.fail(null);
    show(this.bar, true);
    await attempt(async () => {
      const { name } = await sendFile("corpus", file);
      this.wanted = name;
      await this.refresh();
      this.element.dispatchEvent(new Event("change", { bubbles: true }));
    }, this.fail, "The upload broke off. Try it again.");
    show(this.bar, false);
  }

  async remove() {
    if (!this.files.value) return;
    await attempt(async () => this.list((await this.api("delete_corpus", { name: this.files.value })).files),
      this.fail);
  }
}
