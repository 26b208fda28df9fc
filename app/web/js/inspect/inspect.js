// Puts the Inspect page together: form, stage, lens, the life of an inspection, address bar.

import { askedFor, setAddress } from "../shared/address.js";
import { makeApi } from "../shared/api.js";
import { PlotlyChart } from "../shared/charts/plotly_chart.js";
import { h, whenSeen } from "../shared/dom.js";
import { listen, takeOver } from "../shared/events.js";
import { flash } from "../shared/page_parts.js";
import { RunPage } from "../shared/runs/run_page.js";
import { StatusLine } from "../shared/runs/status_line.js";
import { gridLevels } from "../shared/tokens/card_policy.js";
import { InspectForm } from "./inspect_form.js";
import { INSPECT_STATES, InspectionStage } from "./inspect_stage.js";

const HINT = "Hover a token, or focus the text and use the arrow keys. Click one (or Enter) to ask what if.";

class InspectPage extends RunPage {
  constructor(root, api, page) {
    super(root, api, "inspection");
    this.form = new InspectForm(page, {
      start: (request) => this.inspect(request), stop: () => this.stop(),
      policies: async () => (await api("list_policies", {})).policies,
      runs: async () => (await api("saved_runs", {})).runs,
    });
    this.status = new StatusLine(this.statusHandlers(), INSPECT_STATES, "Show the running inspection");
    this.stage = new InspectionStage(root, this.status, {
      pick: (index, at) => this.pick(index, at),
      colour: (key) => setAddress({ [this.names.colour]: key }),
      row: (value) => setAddress({ [this.names.row]: value }),
    }, { hint: HINT, ChartKind: PlotlyChart });
    this.panes = this.stage.panes;
    this.legend = this.stage.legend;
    this.lens = this.makeLens();
    this.follower = this.follow((rows) => this.stage.append(rows));
    root.append(this.build());
    this.reset();
  }

  build() {
    this.tools = this.makeTools("inspection");
    this.empty = emptyInspection();
    const stage = this.stage.build({ over: this.empty, tools: this.tools, below: this.lens.element });
    return h("div", { class: "sol-grid" }, stage, this.form.element);
  }

  start() {
    listen("open-inspection", (detail) => this.open(detail));
    listen("policies-changed", () => this.form.update());
    whenSeen(this.root, () => this.form.update());
    takeOver("run-for-inspect", (id) => this.form.useRun(id)); // chosen in History
    this.takeUp();
  }

  inspect(request) {
    this.ask("start_inspection", request);
  }

  clear() {
    this.stage.clear();
    this.status.say(null);
    super.clear();
  }

  begin(run) {
    this.stage.begin(run);
    this.showRow();
    super.begin(run);
  }

  draw(view) {
    this.panes.setLive(view.live && view.status === "running");
    const isStopping = view.stopping && view.status !== "queued";
    this.stage.update(view, isStopping ? "stopping" : view.status, this.model);
  }

  finish(view) {
    if (!this.wasLive) this.panes.toTop();
    this.stage.finish(view);
  }

  pick(index, at) {
    const { run } = this.follower;
    if (!run || !gridLevels(run)) return;
    this.panes.pick(index, at);
    this.picked(`${index + 1}.${at}`);
    this.lens.open(run, this.liveId === run.id, this.panes.rows(at), index, { row: at });
  }

  markNone() {
    this.panes.pick(null);
  }

  // "5.2": the fifth token under the row of number 2.
  placeOf(text) {
    const [index, at] = text.split(".").map((part, place) => Number(part) - (place ? 0 : 1));
    return this.panes.tokens[index] && this.panes.names[at] ? [index, at] : null;
  }

  pickAt([index, at]) {
    this.panes.reveal(index);
    this.pick(index, at);
  }

  route() {
    super.route();
    if (askedFor(this.part) === this.follower.run?.id) this.showRow();
  }

  // The row that the address names, or as an inspection opens.
  showRow() {
    const asked = askedFor(this.names.row) ?? String(this.panes.names.length - 1);
    if (this.panes.has(asked) && asked !== this.panes.value) this.panes.show(asked);
  }

  reuseSettings() {
    const { run } = this.follower;
    if (!run.config.generated.length) {
      this.form.text.value = run.prompt;
      this.form.source.set("text");
    }
    this.form.set(run.settings);
    this.form.changed();
    flash(this.reuse, "In the form");
  }
}

function emptyInspection() {
  return h("div", { class: "sol-empty" },
    h("h2", {}, "Where would the compute go on your text?"),
    h("ol", {},
      h("li", {}, "Paste a text, choose a file, or take a saved run. Nothing is generated."),
      h("li", {}, "Every token is scored under each schedule at once, at the same budget."),
      h("li", {}, "See what each one spent where, what that cost against the full model, and which tokens "
        + "it served too well or too badly.")));
}

export function mount(root, server, page) {
  new InspectPage(root, makeApi(server), page).start();
}
