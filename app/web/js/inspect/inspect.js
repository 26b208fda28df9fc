// Puts the Inspect page together: form, stage, lens, the life of an inspection, address bar.

import { choicesOf, makeApi } from "../shared/api.js";
import { chip, h, scrollTo, show, whenSeen } from "../shared/dom.js";
import { gridLevels } from "../shared/format.js";
import { RunPage } from "../shared/runs/run_page.js";
import { StatusLine } from "../shared/runs/status_line.js";
import { askedFor, handOver, listen, setAddress, takeOver } from "../shared/tabs.js";
import { PageEffects } from "../shared/tokens/page_effects.js";
import { LENS_HINT } from "../shared/tokens/token_stage.js";
import { InspectForm } from "./inspect_form.js";
import { INSPECT_STATES, InspectionStage } from "./inspect_stage.js";
import { keepToPaint, PaintPanel } from "./painting.js";

class InspectPage extends RunPage {
  constructor(root, api, page) {
    super(root, api, "inspection");
    this.form = new InspectForm(page, { start: (request) => this.ask("start_inspection", request),
      stop: () => this.stop(), ...choicesOf(api),
      // Half of the text lies before the middle step.
      estimate: ({ schedules, max_tokens: most, ...budget }, text) => api("estimate_budget", {
        settings: { ...budget, schedule: "static", max_new_tokens: 1 },
        characters: Math.round(text.length / 2) }) });
    this.status = new StatusLine(this.statusHandlers, INSPECT_STATES, "Show the running inspection");
    this.stage = new InspectionStage(root, this.status, {
      ...this.stageHandlers,
      row: (value) => setAddress({ [this.names.row]: value }),
      effects: (reading) => new PageEffects({ ...reading,
        id: () => `${this.follower.id}.${this.stage.readAt}`,
        ask: (name, request) =>
          api(name, { run_id: this.follower.id, row: this.stage.readAt, ...request }) }),
    }, { hint: LENS_HINT });
    this.lens = this.makeLens();
    this.painter = new PaintPanel(api, { score: (painted, fail) => this.scorePainted(painted, fail),
      changed: (isOpen) => root.classList.toggle("is-painting", isOpen) });
    this.paint = chip("Paint a schedule", () => this.openPainter());
    this.tools = this.makeTools(this.paint);
    this.empty = emptyInspection();
    const stage = this.stage.build({ above: this.painter.element, over: this.empty, tools: this.tools,
      below: this.lens.element });
    root.append(h("div", { class: "sol-grid" }, stage, this.form.element));
    this.reset();
  }

  start() {
    listen("open-inspection", (detail) => this.open(detail));
    listen("policies-changed", () => this.form.update());
    whenSeen(this.root, () => this.form.update());
    takeOver("run-for-inspect", (id) => this.form.useRun(id)); // chosen in History
    takeOver("text-to-paint", (text) => this.inspectToPaint(text)); // the last step of Learn
    this.takeUp();
  }

  async inspectToPaint(text) {
    this.form.set({});
    this.form.useText(text);
    const id = await this.ask("start_inspection", { settings: this.form.settings(), text });
    if (id) keepToPaint(id);
  }

  async scorePainted(painted, fail) {
    const id = await this.ask("inspect_painted", { inspection_id: this.follower.id, painted }, fail);
    if (id) handOver("painted", id);
    this.isPainted = Boolean(id);
    return id;
  }

  showPainter() {
    this.painter.open(this.follower.run, this.stage.tokens, this.stage.names);
    this.stage.showLead(this.painter.view.lead);
  }

  openPainter() {
    this.showPainter();
    scrollTo(this.painter.element, "start");
    this.painter.element.querySelector("h2")?.focus({ preventScroll: true });
  }

  clear() {
    this.painter.close();
    show(this.paint, false);
    super.clear();
  }

  begin(run) {
    super.begin(run);
    this.showRow();
  }

  finish() {
    this.stage.toTop();
    this.stage.reading.effects?.rankSoon();
    const { run } = this.follower;
    if (this.isPainted) scrollTo(this.stage.verdict.element, "center");
    this.isPainted = false;
    show(this.paint, Boolean(this.stage.tokens.length && gridLevels(run)));
    if (!this.paint.hidden && PaintPanel.isKept(run)) this.showPainter();
  }

  route() {
    super.route();
    if (askedFor(this.part) === this.follower.run?.id) this.showRow();
  }

  showRow() {
    const asked = askedFor(this.names.row) ?? String(this.stage.names.length - 1);
    if (this.stage.chosen?.inputs[asked] && asked !== this.stage.chosen.get()) this.stage.showRow(asked);
  }
}

const emptyInspection = () => h("div", { class: "sol-empty" },
  h("h2", {}, "Where would the compute go on your text?"),
  h("ol", {},
    h("li", {}, "Paste a text, choose a file, or take a saved run. Nothing is generated."),
    h("li", {}, "Every token is scored under each schedule at once, at the same budget."),
    h("li", {}, "See what each one spent where, and what that cost against the full model.")));

export const mount = (root, server, page) => new InspectPage(root, makeApi(server), page).start();
