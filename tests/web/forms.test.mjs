// Forms: fields made of a configuration's schema, limits in words, what is kept and sent, refusals; addresses; dialogs.

import { fire, HOSTILE, records, serverOf, settled, shown, textOf, textsOf, told, type } from "./page.mjs";
import { askedFor, linkTo, noPlace, openInTab, roomOf, setAddress, showTab, tabOf } from "../../app/web/js/shared/tabs.js";
import { numberField, sliderField, textFilePicker } from "../../app/web/js/shared/forms/form_parts.js";
import { scheduleField } from "../../app/web/js/shared/forms/compute_fields.js";
import { makeApi } from "../../app/web/js/shared/api.js";
import { recall, remember } from "../../app/web/js/shared/memory.js";
import { InspectForm } from "../../app/web/js/inspect/inspect_form.js";
import { Beside } from "../../app/web/js/compare/beside.js";
import { Controls } from "../../app/web/js/explore/controls.js";
import { LabForm } from "../../app/web/js/lab/lab_form.js";

const HOME = { policies: [{ name: "mine", model: "m" }, { name: HOSTILE, shipped: true }], jobs_allowed: true, suggested_name: "new",
  taken_names: ["old"] };

function labForm(kind, start = async () => {}) {
  const form = new LabForm(serverOf({ list_corpora: { files: [] } }).server, { start }, records().forms[kind], "Start");
  shown(form.element);
  form.home(HOME);
  return form;
}

const control = (form, label) => document.getElementById([...form.element.querySelectorAll("label")].find((one) => textOf(one) === label).htmlFor);

told("a number's limits are said in the form's words once a wrong one is entered", async (say) => {
  const cases = [[{ min: 5, max: 100, unit: "%" }, "4"], [{ min: 5, max: 100 }, "101"], [{ min: 1 }, "0"], [{}, "x"],
    [{ min: 0, max: 1e6 }, "-1"]];
  for (const [limits, value] of cases) {
    const field = numberField({ label: "Kept", hint: "[[kl|Why]].", ...limits });
    shown(field.element);
    say(textOf(field.element.querySelector(".sol-hint")));
    type(field.box, value);
    say(field.problem(), field.box.getAttribute("aria-invalid"));
    field.set(limits.max ?? 7);
    say(field.problem(), field.box.getAttribute("aria-invalid"), field.get());
    field.set(limits.min ?? 7);
    say(field.problem());
  }
  const slider = sliderField({ label: "Bits", unit: "bits", min: 5, max: 16, step: 0.5, hint: "" });
  const line = shown(slider.element).querySelector("[role=alert]");
  type(slider.box, "99");
  say(line.hidden);
  await settled();
  say(textOf(line));
  slider.set(8);
  say(slider.input.value, slider.box.value, line.hidden, slider.input.style.getPropertyValue("--fill"));
  slider.input.value = "10";
  fire(slider.input, "input");
  say(slider.get());
});

told("a form is made of the schema's fields, and says what differs from the preset", async (say) => {
  const form = labForm("train");
  say(form.values()["grpo.updates"], form.changes.hidden);
  type(control(form, "Updates"), "7");
  say(textOf(form.changes));
  for (const label of ["Seed", "Context", "Steps"]) type(control(form, label), "33");
  say(textOf(form.changes));
  form.back.click();
  say(form.changes.hidden, form.values()["grpo.updates"], form.name.get());
  type(form.name.input, " OLD ");
  fire(form.element, "submit");
  say(textsOf(form.element, ".is-bad:not([hidden])"));
  type(form.name.input, "fresh");
  say(form.error.hidden, form.nameProblem.hidden);
  type(control(form, "Updates"), "9");
  say(labForm("train").values()["grpo.updates"]);
});

told("what is sent is what was chosen, in its order; refusals are said and nothing is lost", async (say) => {
  const sent = [];
  const form = labForm("evaluate", async (request) => { sent.push(request); if (sent.length > 1) throw Object.assign(new Error(HOSTILE), { refused: true }); });
  say(textsOf(form.policies.element, "label span"));
  const [first, second] = form.policies.element.querySelectorAll("input");
  for (const box of [first, second, first]) {
    box.checked = !box.checked;
    fire(box, "change");
  }
  type(control(form, "Texts"), "");
  fire(form.element, "submit");
  await settled();
  say(sent[0].policies, sent[0].values.texts, sent[0].corpus);
  fire(form.element, "submit");
  say(form.go.disabled);
  await settled();
  say(textOf(form.error), form.go.disabled, form.element.querySelector("img"));
  form.home({ ...HOME, policies: [] });
  say(form.go.disabled, textOf(form.refused));
  form.home({ ...HOME, jobs_allowed: false, refusal: "Not here." });
  say(form.go.disabled, textOf(form.refused));
});

told("Inspect's form keeps a share of the bytes", async (say) => {
  const asked = [];
  const { explore } = records();
  const form = new InspectForm({ ...explore, maxTokens: 99, defaults: { ...explore.defaults, share: 0, schedules: ["static"] } },
    { estimate: async (values, text) => (asked.push([values.share, text]), null), start: (request) => asked.push(request) });
  shown(form.element);
  form.set({ share: 65 });
  form.useText("Two ships went out.");
  await new Promise((then) => setTimeout(then, 200));
  form.send();
  say(asked);
});

function controls(sent = []) {
  const form = new Controls(records().explore, { generate: (...asked) => sent.push(asked), stop() {}, policies: async () => ["mine"],
    estimate: async () => ({ context: 70, share: 0.92, mix: { keep: 41, channels: 72 }, lowest: 0.5, usual: 0.91 }) });
  shown(form.element);
  return form;
}

told("Explore's form: a wrong number is named, shown and not sent; the dial says its mix", async (say) => {
  const sent = [];
  const form = controls(sent);
  say(form.prompt.get());
  await settled();
  say(textOf(form.dial.output), form.dial.range.getAttribute("aria-valuetext"), textOf(form.dial.note));
  type(form.fields.bits.box, "400");
  fire(form.element, "submit");
  const lines = () => textsOf(form.element, ".is-bad:not([hidden])");
  say(lines(), sent.length, form.dial.axes.open, document.activeElement === form.fields.bits.box);
  type(form.fields.bits.box, "6.5");
  type(form.fields.top_k.box, "-3");
  fire(form.element, "submit");
  say(lines(), controls().values().bits, controls().values().top_k);
  type(form.fields.top_k.box, "3");
  fire(form.element, "submit");
  say(sent[0][1].top_k, sent[0][1].bits, sent[0][1].share, sent[0][1].schedule);
  type(form.fields.keep.box, "50");
  say(form.values().share);
  form.fields.schedule.set("dense");
  form.changed();
  type(form.fields.bits.box, "1");
  say(form.budgetSet.disabled, form.fields.shadow.input.disabled);
  remember("settings", null);
  say(recall("settings"), recall("nothing"));
});

told("the dial follows the prompt's length, also after a reload, until somebody moves it", async (say) => {
  remember("settings", null);
  const { explore } = records();
  const made = () => {
    const form = new Controls(explore, { policies: async () => [],
      estimate: async (_, prompt) => ({ share: 0.9, mix: { keep: 50, channels: 70 }, lowest: 0.3, usual: prompt.length > 99 ? 0.71 : 0.9 }) });
    shown(form.element);
    return form;
  };
  const said = async (form, prompt) => {
    if (prompt) type(form.prompt.input, prompt);
    await settled();
    say(form.values().share, textOf(form.dial.note));
  };
  const form = made();
  const long = "so long a prompt ".repeat(9);
  await said(form, long);
  const again = made();
  await said(again);
  await said(again, "short");
  again.reuse({ prompt: long, settings: { share: 71 } }); // of a run that stood where its prompt put it
  await settled();
  await said(again, "short");
  again.reuse({ prompt: long, settings: { share: 60 } });
  await settled();
  await said(again, "short");
  again.reuse({ prompt: "short", settings: {} });
  again.dial.range.value = "80";
  fire(again.dial.range, "input");
  await said(again, long);
});

told("the share on show is sent; until dial or prompt change no estimate moves it, and no forecast stands beside what was measured", async (say) => {
  remember("settings", null);
  const sent = [];
  const { explore } = records();
  const form = new Controls(explore, { policies: async () => [], generate: (_, settings) => sent.push(settings.share),
    estimate: async (_, prompt) => ({ share: 0.9, mix: { keep: 50, channels: 70 }, lowest: 0.3, zone: "same text", zones: [0.8, 0.6], speed: "1.2 times the speed", usual: prompt.length > 99 ? 0.84 : 0.9 }) });
  shown(form.element);
  const long = "so long a prompt ".repeat(9);
  type(form.prompt.input, long);
  say(textOf(form.dial.output));
  fire(form.element, "submit");
  await settled();
  fire(form.prompt.input, "change"); // the field is left
  await settled();
  say(sent, form.values().share, textOf(form.dial.output), textOf(form.dial.note), form.dial.promise.hidden);
  type(form.prompt.input, `${long}and more`);
  await settled();
  say(textOf(form.dial.output), textOf(form.dial.note), textOf(form.dial.promise));
  fire(form.element, "submit");
  say(form.dial.promise.hidden);
  fire(form.dial.range, "input");
  say(form.dial.promise.hidden);
});

told("Compare sends the share that it shows; a first run's budget for each axis stays until another share is entered", async (say) => {
  const { server, calls } = serverOf({ list_policies: { policies: [] }, start_run: { refused: "not now" } });
  const { form } = new Beside(makeApi(server), "policy", { opened() {}, closed() {} });
  shown(form.element);
  const sent = async (settings, share) => {
    form.take({ id: JSON.stringify(settings), config: { schedule: { kind: settings.schedule } }, settings });
    form.matchSpend(0.914);
    if (share) type(form.fields.share.box, share);
    fire(form.element, "submit");
    await settled();
    const { schedule, share: given, keep } = calls.findLast(([name]) => name === "start_run")[1].settings;
    say([form.fields.share.get(), schedule, given, keep]);
  };
  await sent({ schedule: "policy", share: 90 });
  await sent({ schedule: "dense" });
  await sent({ schedule: "static", share: null, keep: 30 });
  await sent({ schedule: "static", share: null, keep: 30 }, "50");
});

told("schedules: meanings, policies by name, one that is not stored any more", async (say) => {
  const field = scheduleField(async () => ["mine", HOSTILE]);
  shown(field.element);
  field.set("emc");
  say(field.get(), textOf(field.element.querySelector(".sol-hint")));
  field.set("policy:gone");
  await field.update();
  say(textsOf(field.element, "option"), field.get(), field.element.querySelector("select").hidden);
  type(field.element.querySelector("select"), "mine");
  say(field.get());
});

told("policies are listed as soon as policy is chosen", async (say) => {
  const field = scheduleField(async () => ["default", "mine"]);
  shown(field.element);
  field.set("static");
  field.set("policy");
  say(textsOf(field.element, "select option"));
  await settled();
  say(textsOf(field.element, "select option"), field.get());
});

told("a file is taken as text, or it is said why not", async (say) => {
  const said = [];
  const taken = [];
  const box = shown();
  const picker = textFilePicker({ fail: (words) => said.push(words) }, box, 1000, (text) => taken.push(text));
  const input = picker.querySelector("input");
  for (const [name, parts] of [["a.txt", "A <b>tale"], ["bad.bin", new Uint8Array([255, 254])], ["zero", "a\0"], ["large", "x".repeat(4001)]]) {
    const { size } = new Blob([parts]);
    const file = { name, size, arrayBuffer: () => new Blob([parts]).arrayBuffer() };
    if (name === "a.txt") fire(box, "drop", { dataTransfer: { files: [file] } });
    else {
      Object.defineProperty(input, "files", { value: [file], configurable: true });
      fire(input, "change");
    }
    await settled();
  }
  say(taken, said.filter(Boolean));
});

let times = 0;

// The address as a page that opens it leaves it.
async function opened(query) {
  history.replaceState(null, "", `/${query}`);
  times += 1;
  await import(`../../app/web/js/shared/tabs.js?${times}`);
  return location.search;
}

told("addresses are read, kept short, and may hold anything", async (say) => {
  say(await opened("?tab=benchmark&benchmark=b&__theme=dark"), await opened("?challenge=1"));
  say(await opened("?room=1&tab=learn"), await opened("?tab=lab"), await opened("?run=r&token=3&train=t"));
  for (const query of ["", "?inspection=i", "?policy=p", "?lesson=l", "?search=s", "?tab=history&search=s", "?compare=a,b",
    `?run=${encodeURIComponent(HOSTILE)}`]) {
    await opened(query);
    say(query, tabOf());
  }
  say(askedFor("run"), tabOf(new URL("http://x/?tab=%3Cb%3E")), tabOf(new URL("http://x/?tab=")));
  history.replaceState(null, "", "/");
  setAddress({ run: "r", token: "3", colour: "bits" });
  say(location.search);
  showTab("train");
  say(location.search, askedFor("run"), roomOf());
  setAddress({ train: HOSTILE });
  say(new URL(location.href).searchParams.get("train"), location.search.includes("tab="));
  showTab("explore");
  say(location.search);
  openInTab("run", "other");
  say(location.search, noPlace("inspection"), linkTo({ policy: "a b" }));
  setAddress({ run: null });
  say(location.search);
});
