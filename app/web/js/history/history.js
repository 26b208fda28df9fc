// The History tab: what was generated, newest first; open, copy the link, export, import, delete.

import { attempt, makeApi, newest, sendFile } from "../shared/api.js";
import {
  asIs, button, chip, errorLine, h, opensHere, setText, show, showText, SITE, whenSeen,
} from "../shared/dom.js";
import { count, isNumber, modelName, percent, whenText } from "../shared/format.js";
import { askToDelete } from "../shared/forms/form.js";
import { filePicker, labelled } from "../shared/forms/form_parts.js";
import { exportMenu, listRow } from "../shared/page_parts.js";
import { askedFor, emit, handOverTo, linkTo, listen, openInTab, setAddress } from "../shared/tabs.js";
import { BIN, binOf, stretched } from "../shared/tokens/token_view.js";

const PAGE_SIZE = 30;
const partOf = ({ kind }) => (kind === "inspection" ? kind : "run"); // of the address

class HistoryPage {
  rows = new Map(); // by the run's id

  fail = (words) => showText(this.error, words);

  constructor(root, api) {
    this.api = api;
    const oninput = () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => {
        setAddress({ search: this.search.value || null });
        this.load();
      }, 200);
    };
    this.search = h("input",
      { type: "search", class: "sol-input", placeholder: "Words of the prompt", oninput });
    this.search.value = askedFor("search") ?? "";
    addEventListener("popstate", () => {
      const asked = askedFor("search") ?? "";
      const isOther = asked !== this.search.value;
      this.search.value = asked;
      if (isOther) this.load();
    });
    this.list = h("ol", { class: "sol-history-list" });
    this.empty = h("p", { class: "sol-history-empty", hidden: true });
    this.error = errorLine();
    this.more = button("Show more", () => this.load(this.last),
      { class: "sol-button sol-history-more", hidden: true });
    this.root = root;
    root.append(
      h("div", { class: "sol-history-head" }, labelled("Search", null, this.search),
        filePicker("Import a file", ".json,application/json", (file) => this.import(file)),
        h("p", { class: "sol-muted" }, SITE.isShared
          ? "Only you see this list; anyone you give a link sees that run."
          : "All runs saved on this machine.")),
      this.error, h("section", { class: "sol-panel", "aria-label": "Runs" }, this.list, this.empty),
      this.more);
    listen("runs-changed", () => this.load());
    // The tab comes into view: what ended meanwhile shows.
    whenSeen(root, () => this.load());
  }

  /** More of the list, from this place in it; null: anew. @param {string | null} before */
  load(before = null) {
    const request = { query: this.search.value, before, limit: PAGE_SIZE };
    return attempt(async () => {
      const answer = await newest(this, this.api("list_runs", request));
      if (before === null) {
        this.rows.clear();
        this.list.replaceChildren();
      }
      this.list.append(...answer.runs.map((run) => this.row(run)));
      this.fold();
      this.last = answer.next;
      show(this.more, answer.next !== null);
      show(this.error, false);
      setText(this.empty, this.search.value ? `No prompt has “${this.search.value}” in it.`
        : "Nothing yet. Generate something in Explore, or inspect a text, and it will be listed here.");
      show(this.empty, this.list.children.length === 0);
    }, this.fail);
  }

  // Variants of a run stand under it, once it is in the list.
  fold() {
    for (const row of this.rows.values()) {
      let top = row;
      while (this.rows.has(top.parent)) top = this.rows.get(top.parent);
      if (top !== row) top.variants.append(row.element);
    }
    for (const { folded, name, variants: { childElementCount: number } } of this.rows.values()) {
      setText(name, `+ ${count(number, "variant")}`);
      show(folded, number > 0);
    }
  }

  import(file) {
    show(this.error, false);
    return attempt(async () => {
      const made = await sendFile("import", file);
      this.load();
      openInTab(partOf(made), made.id);
    }, this.fail);
  }

  row(run) {
    const part = partOf(run);
    const tool = (label, action, style = "sol-chip") =>
      chip(label, () => action(run), { class: style, "aria-label": `${label}: ${run.title}` });
    const { parent } = run;
    const ofParent = h("span", {}, run.variant, h("span", { class: "sol-history-parent" }, " of ",
      h("a", { href: linkTo({ run: parent }), onclick: opensHere(() => openInTab(part, parent)) },
        "another run")));
    const isWhole = !["running", "damaged"].includes(run.status);
    const hasTokens = part === "run" && run.tokens > 0 && isWhole;
    const kinds = { failed: "bad", interrupted: "bad", damaged: "bad", running: "busy" };
    const glance = h("div", { class: "sol-history-glance" });
    const label = h("span", {}, run.schedule_label);
    const row = listRow({ title: run.title, href: linkTo({ [part]: run.id }),
      open: () => openInTab(part, run.id), link: { title: `Run ${run.id}` }, facts: [
        glance,
        run.status !== "finished"
          && h("span", { class: "sol-state", "data-kind": kinds[run.status] || "idle" }, run.status_label),
        run.variant && ofParent,
        label, [run.budget, count(run.tokens, "token")].map((fact) => h("span", {}, fact)),
        h("time", { datetime: run.created_at }, whenText(run.created_at)),
        h("span", {}, modelName(run.model))],
      tools: [
        hasTokens && tool("Inspect", () => handOverTo("inspect", "run-for-inspect", run.id)),
        hasTokens && tool("Compare", () => openInTab("compare", run.id)),
        isWhole && exportMenu(this.api, part, () => run.id, this.fail, { spoken: `Export: ${run.title}` }),
        run.can_delete && tool("Delete", () => this.ask(run), "sol-chip is-danger")] });
    if (run.tokens > 0 && isWhole) whenSeen(row, () => this.lookAt(run, glance, label));
    const name = h("summary", {});
    const variants = h("ol", { class: "sol-history-list" });
    const folded = h("details", { class: "sol-history-variants", hidden: true }, name, variants);
    row.append(folded);
    this.rows.set(run.id, { element: row, parent, folded, name, variants });
    return row;
  }

  // What became of the text, and its strip; where that cannot be read the card goes without.
  lookAt(run, place, label) {
    if (place.dataset.run) return null;
    place.dataset.run = run.id;
    return attempt(async () => {
      const { strip, share, verdict, answer, is_left_to_static: isLeft } = await this.api("run_glance",
        { run_id: run.id });
      if (isLeft) setText(label, `${run.schedule_label}: static here`);
      const axis = { ...stretched(strip), of: (read) => read };
      place.append(answer && h("p", { class: "sol-history-answer", dir: "auto" }, asIs(answer)),
        h("div", { class: "sol-strip", "aria-hidden": "true" },
          strip.map((read) => h("i", { [BIN]: binOf(axis, read) }))),
        h("span", {}, verdict && [h("b", partOf(run) === "run"
          ? { class: "sol-outcome-name", "data-kind": verdict.head } : {}, verdict.head), verdict.rest, " "],
          h("span", { class: "sol-muted" }, isNumber(share) && `Spent ${percent(share)}.`)));
    }, () => {});
  }

  ask(run) {
    askToDelete(this.root, "Delete this run for good?",
      `“${run.title}”, ${count(run.tokens, "token")}. Links to it will stop working.`, async () => {
        await this.api("delete_run", { run_id: run.id });
        emit("run-deleted", run.id);
        this.load();
      });
  }
}

export const mount = (root, server) => new HistoryPage(root, makeApi(server)).load();
