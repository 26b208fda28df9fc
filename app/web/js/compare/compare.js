// The Compare tab: two parts behind a switch. The address names what is on show: "compare" with two
// runs, "challenge" with a challenge's id, or one of them without anything.

import { askedFor, setAddress, showTab } from "../shared/address.js";
import { makeApi } from "../shared/api.js";
import { show } from "../shared/dom.js";
import { listen, takeOver } from "../shared/events.js";
import { pillsField } from "../shared/forms/form_parts.js";
import { memory } from "../shared/memory.js";
import { ChallengePage } from "./challenge.js";
import { PairPage } from "./pair.js";

const PARTS_OF_PAGE = { compare: "Two runs", challenge: "Beat the policy" };

class ComparePage {
  constructor(root, api, page) {
    const open = (part) => () => {
      this.choose(part);
      showTab("compare");
    };
    this.parts = {
      compare: new PairPage(root, api, open("compare"), page),
      challenge: new ChallengePage(root, api, open("challenge"), page),
    };
    this.choice = pillsField({ legend: "Compare", choices: PARTS_OF_PAGE });
    this.choice.element.classList.add("sol-compare-choice");
    this.choice.element.addEventListener("change", () => {
      this.showPart();
      const part = this.choice.get();
      setAddress({ compare: null, challenge: null, [part]: this.parts[part].address ?? "" }, true);
    });
    root.append(this.choice.element, ...Object.values(this.parts).map((part) => part.element));
    this.choose(memory.get("comparePart") ?? "compare");
  }

  choose(part) {
    this.choice.set(part in PARTS_OF_PAGE ? part : "compare");
    this.showPart();
  }

  showPart() {
    const chosen = this.choice.get();
    memory.set("comparePart", chosen);
    for (const [name, part] of Object.entries(this.parts)) show(part.element, name === chosen);
  }

  start() {
    addEventListener("popstate", () => this.route());
    listen("open-compare", () => this.route());
    this.route();
    // A run was chosen in History: the other one is chosen here.
    takeOver("run-for-compare", (id) => {
      this.choose("compare");
      this.parts.compare.form.choose(id);
    });
  }

  route() {
    const { compare, challenge } = this.parts;
    const runs = askedFor("compare")?.split(",") ?? [];
    compare.showColour();
    if (runs.length === 2) return compare.open(runs, null);
    if (askedFor("challenge")) return challenge.open(askedFor("challenge"), null);
    // A part with nothing open in it, or back to before there was anything.
    const empty = Object.keys(PARTS_OF_PAGE).find((part) => askedFor(part) !== null);
    if (empty) this.choose(empty);
    const part = this.parts[this.choice.get()];
    if (part.address) part.close();
  }
}

export function mount(root, server, page) {
  new ComparePage(root, makeApi(server), page).start();
}
