// The text under one schedule, or under all of them side by side: a token view per pane, which
// scroll and point together.

import { h, show } from "../shared/dom.js";
import { pillChoice } from "../shared/forms/form_parts.js";
import { TokenView } from "../shared/tokens/tokens.js";
import { rowName, rowOf } from "./inspect_rows.js";

const ALL = "all";

export class TokenPanes {
  // on: {enter(index, element, at), leave(), select(range), pick(index, at), show(at), choose(value)}
  constructor(axes, on) {
    this.axes = axes;
    this.on = on;
    this.axis = axes[0];
    this.tokens = [];
    this.picked = [null, null];
    this.choice = h("div", { class: "sol-pane-choice", hidden: true });
    this.element = h("div", { class: "sol-panes" });
    this.clear();
  }

  clear() {
    this.tokens = [];
    this.isLive = false;
    this.names = [];
    this.panes = [];
    this.range = null;
    this.picked = [null, null];
    this.lead = [];
    show(this.choice, false);
    this.element.replaceChildren();
  }

  // names: of the rows, dense first; at: the row on show.
  begin(names, at) {
    this.clear();
    this.names = names;
    const choices = [...names.map((name, place) => [String(place), rowName(name)]), [ALL, "Side by side"]];
    this.chosen = pillChoice("Schedule", choices, (value) => {
      this.show(value);
      this.on.choose(value);
    });
    this.choice.replaceChildren(this.chosen.element);
    show(this.choice, true);
    this.at = at;
    this.show(String(at));
  }

  has(value) {
    return value === ALL || this.names[value] !== undefined;
  }

  // One row's number, or ALL.
  show(value) {
    this.value = value;
    const places = value === ALL ? this.names.map((_, at) => at) : [Number(value)];
    if (value !== ALL) this.at = Number(value);
    this.chosen?.set(value);
    this.element.classList.toggle("is-many", places.length > 1);
    this.panes = places.map((at) => this.pane(at, places.length > 1));
    this.element.replaceChildren(...this.panes.map((pane) => pane.element));
    this.append(this.tokens, true);
    if (this.range) this.select(this.range);
    this.pick(...this.picked);
    this.setLive(this.isLive);
    this.on.show(this.at);
  }

  pane(at, isOneOfMany) {
    const name = rowName(this.names[at]);
    const view = new TokenView(this.axes, {
      enter: (index, token) => this.on.enter(index, token, at),
      leave: () => this.on.leave(),
      select: (range) => this.on.select(range),
      pick: (index) => this.on.pick(index, at),
    }, `Tokens under ${name}`);
    view.setAxis(this.axis);
    view.lead.replaceChildren(...this.lead.map((node) => node.cloneNode(true)));
    view.element.addEventListener("scroll", () => this.follow(view), { passive: true });
    const element = h("div", { class: "sol-pane" },
      isOneOfMany && h("h3", {}, name), h("div", { class: "sol-pane-place" }, view.element));
    return { at, view, element };
  }

  // The same text breaks into the same lines in every pane, so one place suits all.
  follow(view) {
    if (this.panes.length < 2 || !view.element.matches(":hover, :focus-within")) return;
    this.panes.forEach((pane) => {
      if (pane.view !== view) pane.view.element.scrollTop = view.element.scrollTop;
    });
  }

  setLead(nodes) {
    this.lead = nodes;
    this.panes.forEach((pane) => pane.view.lead.replaceChildren(
      ...nodes.map((node) => node.cloneNode(true))));
  }

  append(tokens, isKnown = false) {
    if (!isKnown) this.tokens.push(...tokens);
    this.panes.forEach((pane) => pane.view.append(
      tokens.map((token) => rowOf(token, pane.at))));
    if (isKnown && !this.isLive) this.toTop();
  }

  rows(at = this.at) {
    return this.panes.find((pane) => pane.at === at)?.view.rows
      ?? this.tokens.map((token) => rowOf(token, at));
  }

  elements(at) {
    return this.panes.find((pane) => pane.at === at)?.view.elements ?? [];
  }

  toTop() {
    this.panes.forEach((pane) => { pane.view.element.scrollTop = 0; });
  }

  setAxis(axis) {
    this.axis = axis;
    this.panes.forEach((pane) => pane.view.setAxis(axis));
  }

  setLive(isLive) {
    this.isLive = isLive;
    this.panes.forEach((pane) => pane.view.element.classList.toggle("is-live", Boolean(isLive)));
  }

  mark(index, bringIntoView = false) {
    this.panes.forEach((pane) => pane.view.mark(index, bringIntoView));
  }

  pick(index, at = this.at) {
    this.picked = [index, at];
    this.panes.forEach((pane) => pane.view.pick(pane.at === at ? index : null));
  }

  select(range) {
    this.range = range;
    this.panes.forEach((pane) => pane.view.select(range));
  }

  // Brings a token into view and to the keyboard's place.
  reveal(index) {
    this.panes.forEach(({ view }) => {
      view.makeCurrent(index);
      view.reveal(view.elements[index]);
    });
  }

  // Focuses a token; its card comes with the focus.
  focus(index) {
    const pane = this.panes.find((one) => one.at === this.at) ?? this.panes[0];
    const token = pane?.view.elements[index];
    if (!token) return;
    this.element.scrollIntoView({ block: "nearest", behavior: "auto" });
    pane.view.reveal(token);
    token.focus({ preventScroll: true });
  }
}
