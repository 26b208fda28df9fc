// The Compare tab: two parts behind a switch. The address names what is on show: "compare" with two
// runs, "challenge" with a challenge's id, or one of them without anything.

const PARTS_OF_PAGE = { compare: "Two runs", challenge: "Beat the policy" };

class ComparePage {
  constructor(root, api, showTab) {
    this.showTab = showTab;
    const open = (part) => (tab) => {
      if (tab === "compare") this.choose(part);
      showTab(tab);
    };
    this.parts = {
      compare: new PairPage(root, api, open("compare")),
      challenge: new ChallengePage(root, api, open("challenge")),
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
    addEventListener("sol:open-compare", () => this.route());
    addEventListener("sol:hand-run", () => this.takeRun());
    this.route();
    this.takeRun();
  }

  // A run was chosen in History: the other one is chosen here.
  takeRun() {
    const runId = takeHandedRun("compare");
    if (!runId) return;
    this.choose("compare");
    this.parts.compare.form.choose(runId);
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

{
  const root = element.querySelector(".sol-compare");
  const page = new ComparePage(root, makeApi(server), (tab) => showTab(trigger, tab));
  page.start();
}
