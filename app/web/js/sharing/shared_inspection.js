// The exported inspection: the text under every schedule, with the page's own parts.

import { INSPECT_STATES, InspectionStage } from "../inspect/inspect_stage.js";
import { pageElement } from "../shared/dom.js";
import { StatusLine } from "../shared/runs/status_line.js";
import { SHARED_HINT } from "../shared/tokens/token_stage.js";
import { showRuns } from "./shared_parts.js";

const place = pageElement("main");
await showRuns(place, "inspection", () => new InspectionStage(place, new StatusLine({}, INSPECT_STATES), {},
  { hint: SHARED_HINT }), "Settings of this inspection");
