// The exported run: the page's own stage, with nothing to wait for.

import { pageElement } from "../shared/dom.js";
import { RunStage } from "../shared/runs/run_stage.js";
import { Status } from "../shared/runs/status.js";
import { SHARED_HINT, sharedHead, sharedSettings, sharedView } from "./shared_parts.js";
import { SvgChart } from "./svg_chart.js";

function showRun(root, view) {
  const { run, rows } = view;
  const stage = new RunStage(root, new Status({}), {},
    { hint: SHARED_HINT, ChartKind: SvgChart, missing: "[[kl|KL]] was not measured: the full model did not run beside it." });
  root.append(sharedHead(run), stage.build({ below: sharedSettings(run) }));
  stage.begin(run);
  stage.read(view, run);
  stage.append(rows);
  stage.view.element.scrollTop = 0;
  stage.status.update(view, run, null);
  stage.charts.finish();
}

showRun(pageElement("main"), await sharedView());
