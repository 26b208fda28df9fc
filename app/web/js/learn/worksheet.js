// A sheet to print: every lesson's text and question with room to write, the answers on a page of their
// own. They are measured on the loaded model, like everything in the lessons.

import { h } from "../shared/dom.js";
import { saveFile } from "../shared/download.js";
import { modelName } from "../shared/format.js";
import { Experiment } from "./experiment.js";
import { LETTERS } from "./pictures.js";

const STYLE = `
  body { font: 11.5pt/1.45 system-ui, sans-serif; color: #000; background: #fff; max-width: 178mm; margin: 10mm auto; padding: 0 4mm; }
  h1 { font-size: 20pt; margin: 0 0 2mm; } h2 { font-size: 14pt; margin: 0 0 2mm; }
  p { margin: 0 0 2mm; } ol { margin: 1mm 0 2mm; padding-left: 7mm; list-style: upper-alpha; } li { margin: 1mm 0; }
  section { break-inside: avoid; padding: 4mm 0; border-top: 0.3mm solid #999; }
  .question { font-weight: 600; } .line { display: flex; gap: 3mm; margin-top: 4mm; }
  .line::after { content: ""; flex: 1; border-bottom: 0.3mm solid #000; }
  .answers { break-before: page; border: 0; break-inside: auto; } small { color: #444; }
  @page { size: A4; margin: 15mm; } @media print { body { margin: 0; padding: 0; max-width: none; } }`;

const plain = (text) => text.replace(/\[\[(?:[^\]|]*\|)?([^\]]*)\]\]/g, "$1");
const lines = (names) => names.map((name) => h("p", { class: "line" }, name));

// A lesson's result on its first text; said(text) while it waits.
function measured(api, { experiment, texts }, said) {
  return new Promise((resolve, reject) => {
    const one = new Experiment(api, experiment, { result: resolve, waiting: said, failed: (message) => reject(new Error(message)) });
    one.follow({ text: Object.keys(texts)[0] });
  });
}

function sheet(lessons, results) {
  const made = document.implementation.createHTMLDocument("Worksheet: compute per token");
  made.documentElement.lang = "en";
  const meta = made.createElement("meta");
  meta.setAttribute("charset", "utf-8");
  made.head.prepend(meta);
  made.head.append(h("style", {}, STYLE));
  made.body.append(h("main", {}, h("h1", {}, "How much compute does a token need?"),
    h("p", {}, "Read, guess, and write down why. Then measure on the Learn page, or compare with the last page."), ...lines(["Name"]),
    ...lessons.map((spec, at) => h("section", {}, h("h2", {}, `${at + 1}. ${spec.title}`), spec.intro.map((text) => h("p", {}, plain(text))),
      h("p", { class: "question" }, spec.question), h("ol", {}, spec.options.map((text) => h("li", {}, text))), lines(["My guess, and why", "Measured"]))),
    h("section", { class: "answers" }, h("h1", {}, "Answers"),
      lessons.map((spec, at) => {
        const right = spec.answer(results[at]);
        return h("div", {}, h("h2", {}, `${at + 1}. ${spec.title}: ${LETTERS[right]}`), h("p", {}, h("b", {}, spec.options[right])),
          h("p", {}, plain(spec.said(results[at]))), spec.remember.map((text) => h("p", {}, plain(text))));
      }),
      h("p", {}, h("small", {}, `Measured on ${modelName(results[0].model)}, ${new Date(results[0].measured_at).toLocaleString()}. `
        + "Another model or text may have other answers.")))));
  return `<!doctype html>\n${new XMLSerializer().serializeToString(made.documentElement)}`;
}

// said(text): how far it is. Rejects with the reason where an answer cannot be measured.
export async function saveWorksheet(api, lessons, said) {
  const results = [];
  for (const spec of lessons) {
    const place = `${results.length + 1} of ${lessons.length}`;
    said(`Measuring the answers, ${place}…`);
    results.push(await measured(api, spec, (text) => said(`Answer ${place}: ${text}`)));
  }
  saveFile("worksheet.html", new Blob([sheet(lessons, results)], { type: "text/html" }));
  said("Saved. Open worksheet.html and print it.");
}
