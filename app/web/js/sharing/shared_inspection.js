// The exported inspection: the text under every schedule, with the page's own parts.

import { INSPECT_STATES, InspectionStage } from "../inspect/inspect_stage.js";
import { pageElement } from "../shared/dom.js";
import { StatusLine } from "../shared/runs/status_line.js";
import { SHARED_HINT, sharedHead, sharedSettings, sharedView } from "./shared_parts.js";
import { SvgChart } from "./svg_chart.js";

function showInspection(root, view) {
  const { run, rows } = view;
  const status = new StatusLine({}, INSPECT_STATES);
  const stage = new InspectionStage(root, status, {},
    { hint: SHARED_HINT, ChartKind: SvgChart });
  const place = stage.build();
  place.append(sharedSettings(run, "Settings of this inspection"));
  root.append(sharedHead(run), place);
  stage.clear();
  stage.begin(run);
  stage.append(rows);
  stage.panes.toTop();
  stage.update(view, view.status);
  stage.finish(view);
}

showInspection(pageElement("main"), await sharedView());
