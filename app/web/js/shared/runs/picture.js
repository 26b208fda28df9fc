// A run as a picture to post: question, answer, verdict, and what one word of it looked at and needed.

import { h, SITE, svg } from "../dom.js";
import { menu, saveFile } from "../page_parts.js";
import { barsPath } from "../tokens/reading_drawings.js";
import { withoutEnd } from "../tokens/token_text.js";
import { BIN } from "../tokens/token_view.js";
import { tallyOf } from "./verdict.js";

const PICTURE_WIDTH = 1000;
const EDGE = 44;
const LINE_WIDTH = PICTURE_WIDTH - 2 * EDGE;
const BARS_TALL = 52; // of a strip
const PIXELS = 2; // pixels of a PNG for each of the drawing
const PICTURE_FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif";

const pen = /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));

function widthOf(text, size, weight = 400) {
  pen.font = `${weight} ${size}px ${PICTURE_FONT}`;
  return pen.measureText(text).width;
}

class PictureSheet {
  y = EDGE;
  /** @type {Element[]} */
  parts = [];

  /** @param {string} theme "light" or "dark", whatever the page's is */
  constructor(theme) {
    const place = h("i", { class: `sol-${theme}`, hidden: true });
    document.body.append(place);
    const style = getComputedStyle(place);
    const names = ["panel", "text", "muted", "edge", "attention", "channels", "bad"];
    this.colours = Object.fromEntries(names.map((name) =>
      [name, style.getPropertyValue(`--sol-${name}`).trim()]));
    const byBin = (part) => Array.from({ length: SITE.numBins }, (_, bin) =>
      style.getPropertyValue(`--sol-${part}-${bin}`).trim());
    this.tints = byBin("tint");
    this.inks = byBin("ink");
    place.remove();
  }

  add(tag, attributes, ...children) {
    this.parts.push(svg(tag, attributes, ...children));
  }

  text(text, x, size, fill, weight = 400) {
    this.add("text", { x, y: this.y, fill, "font-size": size, "font-weight": weight,
      "font-family": PICTURE_FONT,
      "xml:space": "preserve" }, text);
  }

  paragraph(words, size, fill, weight = 400) {
    let line = "";
    const end = () => {
      this.y += size * 1.35;
      this.text(line, EDGE, size, fill, weight);
    };
    for (const word of words.split(/\s+/)) {
      if (line && widthOf(`${line} ${word}`, size, weight) > LINE_WIDTH) {
        end();
        line = word;
      } else line = line ? `${line} ${word}` : word;
    }
    end();
    this.y += size * 0.35;
  }

  tokens(elements, rows) {
    const size = 27;
    let x = EDGE;
    this.y += size * 1.7;
    withoutEnd(rows).forEach(({ text }, at) => {
      const wide = widthOf(text, size);
      if (x > EDGE && x + wide > EDGE + LINE_WIDTH) [x, this.y] = [EDGE, this.y + size * 1.7];
      const bin = elements[at].getAttribute(BIN);
      this.add("rect", { x, y: this.y - size, width: wide, height: size * 1.4, rx: 4,
        fill: this.tints[bin] ?? "none",
        ...(elements[at].matches(".is-put") && { stroke: this.colours.bad, "stroke-width": 2 }) });
      this.text(text, x, size, this.inks[bin] ?? this.colours.text);
      if (elements[at].matches(".is-other")) {
        this.add("path", { d: `M${x + 3} ${this.y + size * 0.26}h${wide - 6}`, "stroke-dasharray": "2 3",
          "stroke-width": 2, stroke: this.inks[bin] ?? this.colours.text });
      }
      x += wide + 2;
      if (text.includes("\n")) [x, this.y] = [EDGE, this.y + size * 1.7];
    });
    this.y += size * 0.9;
  }

  // What the tokens' colours mean.
  /** @param {Axis} axis */
  scale({ name, low = 0, high = 1, show }) {
    const size = 17;
    this.y += size * 1.4;
    let x = EDGE;
    const word = (text) => {
      this.text(text, x, size, this.colours.muted);
      x += widthOf(text, size) + 8;
    };
    word(`Colour: ${name.toLowerCase()}, ${show(low)}`);
    for (const fill of this.tints) {
      this.add("rect", { x, y: this.y - 12, width: 7, height: 13, fill });
      x += 7;
    }
    x += 8;
    word(show(high));
  }

  strip(name, values, apart, colour, isNeed) {
    const place = { x: EDGE + 110, base: isNeed ? this.y : this.y + BARS_TALL, width: LINE_WIDTH - 110,
      tall: BARS_TALL, isNeed };
    this.add("path", { d: barsPath(values, place, apart), fill: this.colours[colour] });
    this.add("path", { d: barsPath(values, { ...place, isApart: true }, apart), fill: this.colours.edge });
    this.y += BARS_TALL / 2;
    this.text(name, EDGE, 17, this.colours.muted);
    this.y += BARS_TALL / 2 + 2;
  }

  close() {
    const height = Math.ceil(this.y + EDGE * 0.6);
    return svg("svg", { xmlns: "http://www.w3.org/2000/svg", width: PICTURE_WIDTH, height,
      viewBox: `0 0 ${PICTURE_WIDTH} ${height}` },
    svg("rect", { width: PICTURE_WIDTH, height, fill: this.colours.panel }), ...this.parts);
  }
}

/** @param {import("./run_stage.js").RunStage} stage @param {string} theme */
function pictureOf({ question, view, status, reading, machine, legend }, theme) {
  const sheet = new PictureSheet(theme);
  const { text, muted } = sheet.colours;
  sheet.paragraph(question.textContent ?? "", 19, muted);
  sheet.tokens(view.elements, view.rows);
  const verdict = status.verdict.firstElementChild?.textContent ?? "";
  sheet.paragraph(verdict, 21, text, 600);
  sheet.paragraph(status.spent.textContent ?? "", 17, muted);
  if (!legend.isEven) sheet.scale(legend.axis);
  if (legend.note.textContent) sheet.paragraph(legend.note.textContent, 17, muted);
  const { looked, needed, apart, name } = reading.strips?.values ?? {};
  if (looked && looked.length > 1 && !reading.element.hidden) {
    sheet.y += 14;
    sheet.strip(name, looked, apart, "attention", false);
    if (needed) sheet.strip("Needed", needed, apart, "channels", true);
    const said = needed && reading.effects?.found?.said;
    sheet.paragraph(said || reading.caption.textContent || "", 17, text);
  }
  sheet.paragraph(`SOL Explorer · ${machine.run?.model ?? ""}`, 15, muted);
  return sheet.close();
}

// "What is the capital of Norway?" at 89 % → sol-what-is-the-capital-89.png
function fileName({ question, view }, ending) {
  const words = question.textContent?.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const share = Math.round(100 * tallyOf(view.rows).bytes);
  return `${["sol", ...words.slice(0, 4), share].join("-")}.${ending}`;
}

const xmlOf = (drawing) => new XMLSerializer().serializeToString(drawing);

async function pngOf(drawing) {
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(xmlOf(drawing))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: PIXELS * image.width, height: PIXELS * image.height });
  canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}

/** @param {import("./run_stage.js").RunStage} stage */
export const pictureMenu = (stage) => menu("Save picture", ["light", "dark"].flatMap((theme) => [
  { name: `PNG, ${theme}`, hint: "",
    act: async () => saveFile(fileName(stage, "png"), await pngOf(pictureOf(stage, theme))) },
  { name: `SVG, ${theme}`, hint: "for print", act: () => saveFile(fileName(stage, "svg"),
    new Blob([xmlOf(pictureOf(stage, theme))], { type: "image/svg+xml" })) }]));
