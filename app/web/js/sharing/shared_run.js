// The exported run: the page's own stage, with nothing to wait for.

import { h, pageElement } from "../shared/dom.js";
import { pictureMenu } from "../shared/runs/picture.js";
import { RunStage } from "../shared/runs/run_stage.js";
import { Status } from "../shared/runs/status.js";
import { SHARED_HINT } from "../shared/tokens/token_stage.js";
import { showRuns } from "./shared_parts.js";

const place = pageElement("main");
await showRuns(place, "run", () => new RunStage(place, new Status({}), {}, { hint: SHARED_HINT,
  missing: "[[kl|KL]] was not measured: the full model did not run beside it." }), "Settings of this run",
(stage) => ({ tools: h("div", { class: "sol-tools" }, pictureMenu(stage)) }));
