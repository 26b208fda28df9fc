// The reading map: pages of the text across, generated tokens down; darker where more layers and heads read.

import { drawInTurn, h, show, showText, svg, watchPointer } from "../dom.js";
import { imageMenu } from "../download.js";
import { sharesOf } from "../machine/reads.js";

const MOST_HEIGHT = 260; // px
const LEAST_ROWS = 4; // before them there is nothing to see
const PICTURE = { width: 1200, height: 700, margin: 40 }; // px

const AXES_TEXT = "Across: pages of prompt and answer. Down: generated tokens.";

export class ReadingMap {
  /** @type {Token[]} */
  rows = [];

  // on: {mark(index), select(range)}
  constructor(on) {
    this.on = on;
    this.canvas = h("canvas", { class: "sol-reading-canvas", role: "img",
      "aria-label": "Reading map: pages of the text across, generated tokens down. A dark column is a page "
        + "that many steps read; the edge on the right is the newest text." });
    this.problem = h("p", { class: "sol-message is-bad", role: "alert", hidden: true });
    this.bar = h("div", { class: "sol-reading-row", hidden: true });
    this.field = h("div", { class: "sol-reading-field" }, this.canvas, this.bar);
    this.element = h("details", { class: "sol-reading-map", ontoggle: () => this.draw() },
      h("summary", {}, "Map of the whole run"), this.field,
      h("p", { class: "sol-muted" }, `${AXES_TEXT} Drag to select tokens. `,
        imageMenu("Reading map", (form) => this.picture(form), (words) => showText(this.problem, words))),
      this.problem);
    watchPointer(this.field, (event) => this.tokenAt(event), on);
    this.clear();
  }

  tokenAt(event) {
    const { top, height } = this.canvas.getBoundingClientRect();
    const token = Math.floor((event.clientY - top) / height * this.rows.length);
    return Math.min(Math.max(token, 0), this.rows.length - 1);
  }

  clear() {
    this.rows = [];
    show(this.element, false);
    show(this.bar, false);
  }

  follow(rows) {
    this.rows = rows;
    show(this.element, rows.length >= LEAST_ROWS);
    drawInTurn(this, () => this.draw());
  }

  draw() {
    if (!this.element.open || !this.rows.length) return;
    const width = Math.max(...this.rows.map((row) => row.page_reads?.pages ?? 0));
    const height = this.rows.length;
    if (!width) return;
    Object.assign(this.canvas, { width, height });
    this.field.style.height = `${Math.min(MOST_HEIGHT, Math.max(6 * height, 60))}px`;
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const [red, green, blue] = (getComputedStyle(this.field).color.match(/[\d.]+/g) ?? [0, 0, 0]).map(Number);
    this.rows.forEach((row, token) => {
      const shares = sharesOf(row);
      for (let page = 0; shares && page < (row.page_reads?.pages ?? 0); page += 1) {
        image.data.set([red, green, blue, Math.round(255 * shares(page) ** 0.7)], 4 * (token * width + page));
      }
    });
    context.putImageData(image, 0, 0);
  }

  // The map with its axes as a data URL, "png" or "svg".
  async picture(form) {
    const { width, height, margin } = PICTURE;
    const style = getComputedStyle(this.field);
    const [ink, paper] = [style.color, style.getPropertyValue("--sol-panel").trim()];
    const [across, down] = [width - 2 * margin, height - 2 * margin];
    const drawing = svg("svg",
      { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` },
      svg("rect", { width, height, fill: paper }),
      svg("image", { href: this.canvas.toDataURL(), x: margin, y: margin, width: across, height: down,
        preserveAspectRatio: "none", style: "image-rendering: pixelated" }),
      svg("rect", { x: margin, y: margin, width: across, height: down, fill: "none", stroke: ink }),
      svg("text", { x: margin, y: margin - 14, fill: ink, "font-family": style.fontFamily, "font-size": 18 },
        `${AXES_TEXT} Dark: read by many layers and heads.`));
    const source = new XMLSerializer().serializeToString(drawing);
    const address = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(source)}`;
    if (form === "svg") return address;
    const [picture, sheet] = [new Image(width, height), h("canvas", { width, height })];
    picture.src = address;
    await picture.decode();
    sheet.getContext("2d").drawImage(picture, 0, 0);
    return sheet.toDataURL("image/png");
  }

  mark(index) {
    show(this.bar, index !== null && this.rows.length > 0);
    this.bar.style.top = `${100 * index / this.rows.length}%`;
    this.bar.style.height = `${100 / this.rows.length}%`;
  }
}
