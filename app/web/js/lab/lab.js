// The Lab: four views of one room, each mounted when it is first shown.

import { AccuracyPage } from "../accuracy/accuracy.js";
import { EvaluatePage } from "../evaluate/evaluate.js";
import { PoliciesPage } from "../policies/policies.js";
import { makeApi } from "../shared/api.js";
import { h, opensHere, show } from "../shared/dom.js";
import { sentence } from "../shared/format.js";
import { LAB_VIEWS, linkTo, listen, showTab, tabOf } from "../shared/tabs.js";
import { TrainPage } from "../train/train.js";

const VIEWS = { train: TrainPage, evaluate: EvaluatePage, accuracy: AccuracyPage, policies: PoliciesPage };

export function mount(root, server, page) {
  const links = Object.fromEntries(LAB_VIEWS.map((name) => [name, h("a", { class: "sol-view-link",
    href: linkTo({ tab: name }), onclick: opensHere(() => showTab(name)) }, sentence(name))]));
  const places = new Map();
  root.append(h("nav", { class: "sol-views", "aria-label": "Lab" }, Object.values(links)));
  const showView = () => {
    const name = tabOf();
    if (!(name in VIEWS)) return;
    for (const [view, link] of Object.entries(links)) link.ariaCurrent = view === name ? "page" : null;
    const isNew = !places.has(name);
    if (isNew) {
      places.set(name, h("div", { class: `sol-page sol-${name}` }));
      root.append(places.get(name));
    }
    places.forEach((one, view) => show(one, view === name));
    if (isNew) new VIEWS[name](places.get(name), makeApi(server), page[name]).begin();
  };
  listen("tab-shown", showView);
  showView();
}
