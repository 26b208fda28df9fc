// The three sliders of a budget, as every form that has one shows them.

import { SITE } from "../site.js";
import { sliderField } from "./form_parts.js";

export function budgetFields() {
  const [keep, channels, bits] = ["keep", "channels", "bits"].map((name) => SITE.limits[name]);
  return {
    keep: sliderField({ label: "Attention kept", unit: "%", axis: "attention", min: keep[0],
      max: keep[1], step: 1, hint: "Share of the cached tokens a [[decode step|step]] may read: its best [[page|pages]]." }),
    channels: sliderField({ label: "Channels kept", unit: "%", axis: "channels",
      min: channels[0], max: channels[1], step: 1,
      hint: "Share of the [[mlp|MLP]]'s [[channel|channels]]; the weights of the rest are not read." }),
    bits: sliderField({ label: "Bits", unit: "bit", axis: "bits", min: bits[0], max: bits[1],
      step: 0.5, hint: "Width of the MLP's [[activation|activations]]; 16 leaves them as they are." }),
  };
}
