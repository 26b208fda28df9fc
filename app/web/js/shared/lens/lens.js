// "What if?": the chosen token under every level of every axis, decoded anew from the run's own cache.

import { attempt, newest } from "../api.js";
import { chip, errorLine, h, setChildren, setText, show, showText, smallButton } from "../dom.js";
import { isNumber, nats } from "../format.js";
import { glossed } from "../glossary.js";
import { tablePlace } from "../page_parts.js";
import { gridLevels, LEAST_TOP } from "../levels.js";
import { tokenNodes } from "../tokens/token_text.js";
import { choiceNote, choiceTable, lensScale, LevelPlot, trailTable } from "./lens_parts.js";

export class LensPanel {
  // on: {close(hadFocus), fork(index, token id) where it can be done}
  constructor(api, on) {
    this.api = api;
    this.on = on;
    this.axes = [];
    this.token = h("span", { class: "sol-lens-token" });
    this.state = h("span", { class: "sol-muted", role: "status" });
    this.again = smallButton("Try again", () => this.ask(), { hidden: true });
    this.message = errorLine();
    this.choices = h("div", { class: "sol-lens-axes" });
    this.choiceNote = h("p", { class: "sol-hint" });
    this.curves = h("div", { class: "sol-lens-axes" });
    this.curvesNote = h("p", { class: "sol-hint" });
    this.trails = tablePlace("The tokens that followed", null);
    this.trailNote = h("p", { class: "sol-hint" });
    const part = (title, ...rest) => h("section", { class: "sol-lens-part", "aria-label": title },
      h("h3", {}, title), rest);
    this.body = h("div", { class: "sol-lens-body", hidden: true },
      part("The token each level chooses", this.choiceNote, this.choices),
      part("Every level", this.curves, this.curvesNote),
      part("The next tokens", this.trails, this.trailNote));
    this.element = h("section", { class: "sol-panel sol-lens", "aria-label": "What if?", hidden: true },
      h("header", {}, h("h2", {}, "What if?"), this.token, this.state, this.again,
        h("div", { class: "sol-tools" }, chip("Close", () => this.close()))),
      this.message, this.body);
    addEventListener("keydown", ({ key }) => key === "Escape" && !this.element.hidden && this.close());
  }

  close() {
    const hadFocus = this.element.contains(document.activeElement);
    this.clear();
    this.on.close(hadFocus);
  }

  clear() {
    this.turn = {};
    this.wanted = null; // what is asked about
    this.waits = false; // for the run's end
    this.element.removeAttribute("aria-busy");
    [this.element, this.message, this.again].forEach((part) => show(part, false));
  }

  open(run, isLive, rows, index, which = {}) {
    this.clear();
    this.wanted = { run, rows, index, which };
    this.axes = gridLevels(run) ?? [];
    this.token.replaceChildren(h("b", {}, tokenNodes(rows[index].text)), ` token ${index + 1}`);
    show(this.element, true);
    if (isLive) {
      show(this.body, false);
      this.waits = true;
      setText(this.state, "Opens when the run has ended.");
    } else this.ask();
  }

  // One question at a time; walking through the tokens, only the last one's answer is drawn.
  async ask() {
    if (!this.wanted) return;
    this.waits = false;
    const { run, index, rows, which } = this.wanted;
    [this.message, this.again].forEach((part) => show(part, false));
    this.element.setAttribute("aria-busy", "true");
    this.setOld(true);
    setText(this.state, "Decoding the alternatives…");
    await newest(this, Promise.allSettled([this.asking]));
    await attempt(async () => {
      this.asking = this.api("look_at_token", { run_id: run.id, index, ...which });
      this.draw(await newest(this, this.asking), rows);
    }, (words) => this.fail(words));
    this.element.removeAttribute("aria-busy");
  }

  // Another token's answer is dim, and nothing in it can be pressed.
  setOld(isOld) {
    this.body.classList.toggle("is-old", isOld);
    this.body.inert = isOld;
  }

  complain(words) {
    showText(this.message, words);
    this.message.scrollIntoView({ block: "nearest" });
  }

  fail(words) {
    setText(this.state, "");
    showText(this.message, words);
    show(this.again, true);
    show(this.body, false);
  }

  draw(view, rows) {
    const row = rows[view.index];
    setChildren(this.choiceNote, choiceNote(view, row));
    const fork = this.on.fork && ((token) => this.on.fork(view.index, token));
    this.choices.replaceChildren(...this.axes.map(({ axis, levels }, at) =>
      choiceTable(axis, levels, view.axes[at], view.taken, row.token_id, fork)));
    const shared = { taken: view.taken, dense: view.dense, scale: lensScale(view),
      top: Math.max(...(row.policy ?? []).flat(), LEAST_TOP) };
    this.curves.replaceChildren(...this.axes.map(({ axis, levels }, at) => new LevelPlot(axis, levels,
      view.axes[at], row.policy?.[at] ?? null, shared).element));
    setText(this.state, "Changes one setting at a time.");
    setText(this.curvesNote, replayedText(row, view));
    const followed = view.trails[0].kl.length;
    show(this.trails, followed > 0);
    this.trails.replaceChildren(followed ? trailTable(view, rows) : "");
    this.trailNote.replaceChildren(...glossed(followed ? "What each of these steps changes in later tokens "
      + "([[kv pollution|errors left in the cache]]), in [[nats]]; a dot is less than 0.005."
      : "Nothing of this step reaches a later token: the run ends here."));
    show(this.body, true);
    this.setOld(false);
  }
}

function replayedText(row, view) {
  const { nll, kl_to_dense: kl } = view.replayed ?? {};
  if (isNumber(row.surprisal) && isNumber(nll) && Math.abs(row.surprisal - nll) > 0.02) {
    return `Replayed with a surprisal of ${nats(nll)} instead of ${nats(row.surprisal)}: rounding chose `
      + "other pages or channels.";
  }
  const noise = view.noise ? ` Differences of surprisal below ${nats(view.noise)} nats may be rounding.` : "";
  const own = isNumber(kl) ? " KL compares with a full step on this run's own cache; "
    + `compared with the full model that ran beside it, this step's is ${nats(kl)}.` : "";
  return `Dashed: nothing left out.${noise}${own}`;
}
