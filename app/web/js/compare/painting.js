// A schedule under the brush: which level every token has on every axis, what that spends, and how
// much of the budget is left. Knows nothing of the page.

import { recall } from "../shared/memory.js";
import { nearest } from "../shared/tokens/card_policy.js";

const ROUNDING = 1e-6; // of a sum of levels, which binary fractions do not hold exactly
const UNDO_STEPS = 200;

export class Painting {
  // challenge: {levels per axis, limit per axis (summed over the tokens), steps}
  constructor({ levels, limit, steps }) {
    this.levels = levels;
    this.limit = limit;
    this.steps = steps;
    this.past = [];
    this.places = Array.from({ length: steps }, () => levels.map(() => 0));
  }

  // The schedule as actions, one per token.
  get actions() {
    return this.places.map((places) => places.map((place, axis) => this.levels[axis][place]));
  }

  // Takes a whole schedule; null: the lowest level everywhere.
  load(actions) {
    this.remember();
    this.places = Array.from({ length: this.steps }, (_, step) => this.levels.map((levels, axis) =>
      (actions ? nearest(levels, actions[step][axis]) : 0)));
  }

  // Takes places that the browser kept, if they are of this challenge; says whether it did.
  restore(places) {
    const fits = Array.isArray(places) && places.length === this.steps && places.every((one) =>
      Array.isArray(one) && one.length === this.levels.length
      && one.every((place, axis) => this.levels[axis][place] !== undefined));
    if (fits) this.places = places;
    return fits;
  }

  // Of a link: a letter per token and axis.
  get letters() {
    return this.places.flat().map((place) => place.toString(36)).join("");
  }

  // Of as many letters a token as there are axes.
  static placesOf(letters, axes) {
    const steps = letters?.match(new RegExp(`[0-9a-z]{${axes}}`, "g")) ?? [];
    return steps.map((step) => Array.from(step, (letter) => parseInt(letter, 36)));
  }

  // One entry of the way back: what a whole stroke changes comes back at once.
  remember() {
    this.past.push(this.places.map((places) => [...places]));
    if (this.past.length > UNDO_STEPS) this.past.shift();
  }

  // Back to what looked different: a click that changed nothing costs no step.
  undo() {
    const now = String(this.places);
    while (this.past.length) {
      const before = this.past.pop();
      if (String(before) === now) continue;
      this.places = before;
      return true;
    }
    return false;
  }

  // choose: from the present place of a level to the wanted one.
  change(axis, [from, to], choose) {
    const last = this.levels[axis].length - 1;
    for (let step = from; step <= to; step += 1) {
      this.places[step][axis] = Math.min(Math.max(choose(this.places[step][axis]), 0), last);
    }
  }

  used(axis) {
    return this.places.reduce((sum, places) => sum + this.levels[axis][places[axis]], 0);
  }

  // The rest of the axis' budget, below 0 when it is overspent.
  left(axis) {
    const rest = this.limit[axis] - this.used(axis);
    return Math.abs(rest) < ROUNDING ? 0 : rest;
  }
}

// A painting from before a reload; null when there is none of this challenge.
export function keptPlaces(id) {
  const kept = recall("painting");
  return kept.id === id ? kept.places : null;
}
