// The demo: a recording and its dial, with nothing behind it.

import { h, pageElement } from "../shared/dom.js";
import { RecordingView } from "../shared/recording.js";
import { sharedView } from "./shared_parts.js";

const { recording } = await sharedView();
const shown = new RecordingView(recording);
pageElement("main").append(
  h("header", { class: "sol-header" },
    h("span", { class: "sol-mark", "aria-hidden": "true" }, h("i"), h("i"), h("i")),
    h("div", {}, h("h1", {}, "SOL Explorer"), h("p", {}, "Where a language model spends its compute, token by token."))),
  h("div", { class: "sol-panel sol-recording-place" }, shown.element));
shown.play();
