// A run as one picture to share: prompt, the sentence of what it spent, and its tokens in colour, as large as all of
// them fit. Everything is drawn as text on a canvas, in the page's own colours.

import { h } from "../shared/dom.js";
import { AXES, modelName, scheduleOf } from "../shared/format.js";
import { SPECIAL } from "../shared/machine/sides.js";
import { SITE } from "../shared/site.js";

const WIDTH = 1200;
const HEIGHT = 630; // as link previews have it
const MARGIN = 56;
const FOOT = HEIGHT - 40; // base line
const TEXT_END = FOOT - 40;
const LANE = 8; // px: height of those at the top
const SIZES = [46, 40, 35, 31, 27, 24, 21]; // of the tokens, px; a longer text is cut
const LEADING = 1.62;

/** @typedef {{ text: string, tint: string, ink: string, isOther: boolean, isLast: boolean, spend: number[] }} Drawn a token as the page shows it */

export class SharePicture {
  // stage: a RunStage with the run on show.
  constructor(stage, run) {
    this.stage = stage;
    this.run = run;
    this.canvas = h("canvas", { width: WIDTH, height: HEIGHT });
    this.brush = this.canvas.getContext("2d");
    this.style = getComputedStyle(stage.view.element);
    this.tokens = stage.view.elements.map((token, at) => drawn(token, stage.view.rows[at])).filter(({ text }) => !SPECIAL.test(text));
    this.draw();
  }

  colour(name) {
    return this.style.getPropertyValue(`--sol-${name}`).trim();
  }

  write(text, x, y, font, fill) {
    this.brush.font = `${font} ${this.style.fontFamily}`;
    this.brush.fillStyle = fill;
    this.brush.fillText(text, x, y);
    return this.brush.measureText(text).width;
  }

  // The lanes at the top are the spend of the last token.
  draw() {
    const { brush, style, run, stage } = this;
    const muted = this.colour("muted");
    brush.textAlign = "left";
    brush.fillStyle = this.colour("panel");
    brush.fillRect(0, 0, WIDTH, HEIGHT);
    this.drawLanes(this.tokens.at(-1)?.spend ?? [1, 1, 1]);

    brush.font = `650 27px ${style.fontFamily}`;
    this.write(fitted(brush, run.prompt.replace(/\s+/g, " ").trim(), WIDTH - 2 * MARGIN), MARGIN, 72, "650 27px", this.colour("text"));
    brush.font = `400 23px ${style.fontFamily}`;
    let y = 112;
    for (const line of linesOf(brush, stage.status.sentence.textContent, WIDTH - 2 * MARGIN).slice(0, 2)) {
      this.write(line, MARGIN, y, "400 23px", muted);
      y += 33;
    }
    drawTokens(brush, layAllOut(brush, this.tokens, style.fontFamily, y + 4), style.fontFamily, muted);
    this.drawFoot(muted);
  }

  drawLanes(shares) {
    AXES.forEach(({ key }, at) => {
      const [begin, width] = [at * WIDTH / AXES.length, WIDTH / AXES.length];
      this.brush.fillStyle = this.colour("track");
      this.brush.fillRect(begin, 0, width, LANE);
      this.brush.fillStyle = this.colour(key);
      this.brush.fillRect(begin, 0, shares[at] * width, LANE);
    });
  }

  drawFoot(muted) {
    const { legend } = this.stage;
    const { scale } = legend;
    const [low, high] = [...scale.querySelectorAll(".sol-value")].map((one) => one.textContent);
    let x = MARGIN + this.write(`${legend.axis.name}  ${low}`, MARGIN, FOOT, "400 19px", muted) + 10;
    for (const step of scale.querySelectorAll(".sol-swatch")) {
      this.brush.fillStyle = getComputedStyle(step).backgroundColor;
      this.brush.fillRect(x, FOOT - 15, 9, 18);
      x += 9;
    }
    this.write(high, x + 10, FOOT, "400 19px", muted);
    const { kind, policy } = scheduleOf(this.run);
    const made = `${modelName(this.run.model)}, ${policy ? `policy ${modelName(policy)}` : SITE.schedules[kind] ?? kind} · SOL Explorer`;
    this.brush.textAlign = "right";
    this.write(made, WIDTH - MARGIN, FOOT, "400 19px", muted);
  }
}

/** @returns {Drawn} */
function drawn(token, row) {
  const style = getComputedStyle(token);
  const tint = style.getPropertyValue("--tint").trim();
  return { text: token.textContent.replace(/\u00a0/g, " "), tint, ink: style.color,
    isOther: token.classList.contains("is-other"), isLast: token.parentElement.lastElementChild === token,
    spend: AXES.map((axis) => axis.share(axis.of(row))) };
}

// Places of all tokens at this size; null where they do not fit.
function layOut(brush, tokens, font, size, top) {
  brush.font = `400 ${size}px ${font}`;
  const places = [];
  let [x, y] = [MARGIN, top + size * 1.25];
  for (const token of tokens) {
    const width = brush.measureText(token.text).width + 0.12 * size;
    if (x > MARGIN && x + width > WIDTH - MARGIN) [x, y] = [MARGIN, y + size * LEADING];
    if (y > TEXT_END) return { places, isWhole: false };
    places.push({ token, x, y, width });
    x = token.isLast ? Infinity : x + width + 2;
  }
  return { places, isWhole: true };
}

// The largest size at which all tokens have a place; the smallest one where they have not.
function layAllOut(brush, tokens, font, top) {
  const laidOut = (size) => ({ size, ...layOut(brush, tokens, font, size, top) });
  return SIZES.map(laidOut).find((laid) => laid.isWhole) ?? laidOut(SIZES.at(-1));
}

function drawTokens(brush, { size, places, isWhole }, font, muted) {
  brush.font = `400 ${size}px ${font}`;
  for (const { token, x, y, width } of places) {
    brush.fillStyle = token.tint;
    brush.beginPath();
    brush.roundRect(x, y - 1.05 * size, width, 1.38 * size, 4);
    brush.fill();
    brush.fillStyle = token.ink;
    brush.fillText(token.text, x + 0.06 * size, y, WIDTH - 2 * MARGIN);
    if (token.isOther) dotted(brush, token, x + 3, y + 0.2 * size, width - 6);
  }
  const last = places.at(-1);
  if (isWhole || !last) return;
  brush.fillStyle = muted;
  brush.fillText("…", Math.min(last.x + last.width + 6, WIDTH - MARGIN + 6), last.y);
}

// Below a token that dense would not have put first.
function dotted(brush, token, x, y, width) {
  brush.strokeStyle = token.ink;
  brush.lineWidth = 2;
  brush.setLineDash([2, 3]);
  brush.beginPath();
  brush.moveTo(x, y);
  brush.lineTo(x + width, y);
  brush.stroke();
}

// The text, cut so that it is this wide at most.
function fitted(brush, text, width) {
  const all = [...text.slice(0, 400)];
  let length = all.length;
  while (length && brush.measureText(`${all.slice(0, length).join("")}…`).width > width) length -= 1;
  return length < all.length || text.length > 400 ? `${all.slice(0, length).join("").trimEnd()}…` : text;
}

function linesOf(brush, text, width) {
  const lines = [""];
  for (const word of text.split(/\s+/)) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (brush.measureText(longer).width <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
