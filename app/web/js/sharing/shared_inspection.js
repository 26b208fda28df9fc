// The exported inspection: the text under every schedule, with the page's own parts.

import { INSPECT_STATES, InspectionStage } from "../inspect/inspect_stage.js";
import { pageElement } from "../shared/dom.js";
import { StatusLine } from "../shared/runs/status_line.js";
import { SHARED_HINT, sharedView, showStage } from "./shared_parts.js";

const place = pageElement("main");
showStage(place, new InspectionStage(place, new StatusLine({}, INSPECT_STATES), {},
  { hint: SHARED_HINT }), await sharedView(), "Settings of this inspection");
