// Filters of History: kind and schedule, as pills above the list, and kept in the address beside the search.

import { askedFor, setAddress } from "../shared/address.js";
import { h } from "../shared/dom.js";
import { pillChoice } from "../shared/forms/form_parts.js";
import { SITE } from "../shared/site.js";

const KINDS = { generation: "Runs", inspection: "Inspections" };
const ALL = "all";

class Filter {
  // name: in the address, and of the request; onChange(): another value was chosen.
  constructor(name, legend, choices, onChange) {
    this.name = name;
    this.choices = choices;
    this.pills = pillChoice(legend, [[ALL, "All"], ...Object.entries(choices)], () => {
      setAddress({ [name]: this.value() });
      onChange();
    });
    this.read();
  }

  // Chooses what the address says; returns whether that is another value.
  read() {
    const asked = askedFor(this.name);
    const before = this.pills.get();
    this.pills.set(Object.hasOwn(this.choices, asked ?? ALL) ? asked : ALL);
    return before !== this.pills.get();
  }

  // Null: all.
  value() {
    const value = this.pills.get();
    return value === ALL ? null : value;
  }
}

export class Filters {
  constructor(onChange) {
    this.all = [new Filter("kind", "Kind", KINDS, onChange), new Filter("schedule", "Schedule", SITE.schedules, onChange)];
    this.element = h("div", { class: "sol-history-filters" }, this.all.map((one) => one.pills.element));
  }

  // For the request: all that Python is asked for.
  values() {
    return Object.fromEntries(this.all.map((one) => [one.name, one.value()]));
  }

  read() {
    return this.all.map((one) => one.read()).some(Boolean);
  }

  clear() {
    setAddress(Object.fromEntries(this.all.map((one) => [one.name, null])));
    this.read();
  }

  // Those that are on, in words.
  words() {
    return this.all.map((one) => one.choices[one.value() ?? ALL]).filter(Boolean);
  }
}
