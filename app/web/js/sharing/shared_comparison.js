// The exported comparison: both texts aligned and in numbers, with the page's own parts.

import { PairStage, sideName, SIDES } from "../compare/pair_stage.js";
import { h, pageElement } from "../shared/dom.js";
import { SHARED_HINT } from "../shared/tokens/token_stage.js";
import { sharedHead, sharedSettings, sharedView } from "./shared_parts.js";

function showComparison(root, { views, compared }) {
  const stage = new PairStage(root, SHARED_HINT);
  root.append(sharedHead(views[0].run), h("div", { class: "sol-stage" }, stage.build(), stage.table,
    h("div", { class: "sol-shared-pair" }, views.map(({ run }, at) =>
      sharedSettings(run, `Settings of ${sideName(SIDES[at])}`)))));
  stage.clear();
  views.forEach((view, at) => {
    stage.begin(at, view.run);
    stage.append(at, view.rows);
    stage.setState(at, view.status);
  });
  stage.draw(compared);
  stage.place.scrollTop = 0;
}

showComparison(pageElement("main"), await sharedView());
