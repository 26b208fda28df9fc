// The choice of mechanisms: how a step picks what it skips.

import { MECHANISMS } from "../format.js";
import { pillsField } from "./form_parts.js";

export function mechanismsField() {
  const field = pillsField({ legend: "Mechanisms", choices: { policy: "The policy's own", ...MECHANISMS },
    meanings: {
      policy: "As the [[policy]] was trained, else the default [[mechanisms]], which lose less than the paper's for the same bytes.",
      default: "[[page|Pages]] by [[key copies|4-bit keys]], once per [[kv group|KV group]]; the [[mlp|MLP]] skips on both sides. "
        + "Loses less than the paper's for the same bytes.",
      paper: "[[page|Pages]] by their [[page bounds|bounds]], head by head; the [[mlp|MLP]] skips at its input only. As published.",
    } });
  field.element.classList.add("is-wide");
  return field;
}
