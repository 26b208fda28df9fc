// The forks of the run on show: the tree of them, in which one walks from run to run, and its text beside its
// parent's, below the beginning that both share.

import { h, reachWhenScrolling, setText, show } from "../shared/dom.js";
import { count } from "../shared/format.js";
import { spokenText, tokenNodes } from "../shared/tokens/token_text.js";
import { BIN, binOf } from "../shared/tokens/tokens.js";

/** @typedef {{ id: string, parent: string | null, index: number | null, text: string | null, words: string }} Fork */

export class Forks {
  // view: the TokenView of the run on show, whose colours both texts have; open(id): shows another run of the tree.
  constructor(api, view, open) {
    this.api = api;
    this.view = view;
    this.open = open;
    this.rows = [];
    this.tree = h("ul", { class: "sol-fork-tree" });
    this.common = reachWhenScrolling(h("p", { class: "sol-fork-common", dir: "auto" }), "The beginning of both");
    this.sides = ["Its parent went on", "This run goes on"].map((name) => this.side(name));
    this.texts = reachWhenScrolling(h("div", { class: "sol-fork-texts" }, this.sides.map((one) => one.element)), "Both runs");
    this.pair = h("div", { class: "sol-fork-pair" }, h("h3", {}, "Both begin"), this.common, this.texts);
    this.state = h("small", { class: "sol-muted" });
    this.element = h("section", { class: "sol-panel sol-forks", "aria-label": "Forks", hidden: true },
      h("header", {}, h("h2", {}, "Forks"), this.state), this.tree, this.pair);
    this.clear();
  }

  side(name) {
    const text = h("p", { class: "sol-fork-text", dir: "auto" });
    return { text, tokens: [], element: h("div", {}, h("h3", {}, name), text) };
  }

  clear() {
    this.turn = {};
    this.run = null;
    this.at = null;
    this.rows = [];
    show(this.element, false);
  }

  // The run on show is known; its tokens come by append().
  async begin(run) {
    this.clear();
    this.run = run;
    const { turn } = this;
    try {
      const { parent, index } = await this.showTree();
      show(this.pair, parent !== null);
      const before = parent && await this.rowsOf(parent, turn);
      if (before && turn === this.turn) this.showPair(before, index);
    } catch {
      // Without its forks a run is shown as any other.
    }
  }

  // The run has ended: the tree now has its words.
  finish() {
    if (!this.element.hidden) this.showTree().catch(() => {});
  }

  // Returns the run on show as the tree has it.
  async showTree() {
    const { turn, run: { id } } = this;
    const { runs } = await this.api("fork_tree", { run_id: id });
    if (turn === this.turn) {
      show(this.element, runs.length > 1);
      setText(this.state, `${count(runs.length, "run")}. Each goes on from another token than the one above it.`);
      this.tree.replaceChildren(branch(runs, runs[0], id, this.open));
    }
    return /** @type {Fork} */ (runs.find((one) => one.id === id));
  }

  async rowsOf(id, turn) {
    const rows = [];
    for (let more = true; more && turn === this.turn;) {
      const view = await this.api("poll_run", { run_id: id, cursor: rows.length });
      rows.push(...view.rows);
      more = view.more;
    }
    return rows;
  }

  // before: the parent's tokens; at: the place of the first one that differs.
  showPair(before, at) {
    this.at = at;
    this.sides.forEach((side) => {
      side.tokens = [];
      side.text.replaceChildren();
    });
    this.common.replaceChildren(...before.slice(0, at).flatMap(({ text }) => [/^\s/.test(text) && h("wbr"), ...tokenNodes(text)])
      .filter(Boolean));
    this.common.scrollTop = this.common.scrollHeight;
    this.add(this.sides[0], before);
    this.add(this.sides[1], this.rows);
  }

  append(rows) {
    this.rows.push(...rows);
    if (this.at !== null) this.add(this.sides[1], rows);
  }

  add(side, rows) {
    for (const row of rows) {
      if (row.index < this.at) continue;
      const element = h("span", { class: row.index === this.at ? "sol-token is-parting" : "sol-token" }, tokenNodes(row.text));
      if (/^\s/.test(row.text)) side.text.append(h("wbr"));
      side.text.append(element);
      side.tokens.push({ element, row });
    }
    this.paint(side.tokens.slice(-rows.length));
  }

  // As the text above is coloured.
  paint(tokens = this.sides.flatMap((side) => side.tokens)) {
    for (const { element, row } of tokens) {
      const bin = binOf(this.view.axis, this.view.span, row);
      if (bin === null) element.removeAttribute(BIN);
      else element.setAttribute(BIN, String(bin));
    }
  }
}

// A run and, below it, its forks.
function branch(runs, run, shown, open) {
  const { id, index, text, words } = run;
  const place = index === null ? "First run" : `Token ${index + 1}`;
  const forks = runs.filter((one) => one.parent === id);
  return h("li", {}, h("button", { type: "button", class: "sol-fork", "aria-current": id === shown && "true",
    "aria-label": `${place}${text === null ? "" : `, ${spokenText(text).trim()}`}: ${words}`,
    onclick: () => id === shown || open(id) },
  h("span", { class: "sol-muted" }, place), text !== null && h("b", {}, tokenNodes(text)), h("bdi", {}, words)),
  forks.length > 0 && h("ul", {}, forks.map((one) => branch(runs, one, shown, open))));
}
