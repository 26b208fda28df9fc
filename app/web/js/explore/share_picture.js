// A run as one picture to share: prompt, the sentence of what it spent, and its tokens in colour, as large as all of
// them fit. Everything is drawn as text on a canvas, in the page's own colours.

import { h } from "../shared/dom.js";
import { modelName, scheduleOf } from "../shared/format.js";
import { SITE } from "../shared/site.js";

const WIDTH = 1200;
const HEIGHT = 630; // as link previews have it
const MARGIN = 56;
const FOOT = HEIGHT - 40; // base line
const TEXT_END = FOOT - 40;
const SIZES = [46, 40, 35, 31, 27, 24, 21]; // of the tokens, px; a longer text is cut
const LEADING = 1.62;

/** @typedef {{ text: string, tint: string, ink: string, isOther: boolean, isLast: boolean }} Drawn a token as the page shows it */

// stage: a RunStage with the run on show. Returns the canvas.
export function sharePicture(stage, run) {
  const canvas = h("canvas", { width: WIDTH, height: HEIGHT });
  const brush = canvas.getContext("2d");
  const style = getComputedStyle(stage.view.element);
  const colour = (name) => style.getPropertyValue(`--sol-${name}`).trim();
  const write = (text, x, y, font, fill) => {
    brush.font = `${font} ${style.fontFamily}`;
    brush.fillStyle = fill;
    brush.fillText(text, x, y);
    return brush.measureText(text).width;
  };
  brush.fillStyle = colour("panel");
  brush.fillRect(0, 0, WIDTH, HEIGHT);
  ["attention", "channels", "bits"].forEach((axis, at) => {
    brush.fillStyle = colour(axis);
    brush.fillRect(at * WIDTH / 3, 0, WIDTH / 3, 8);
  });

  brush.font = `650 27px ${style.fontFamily}`;
  write(fitted(brush, run.prompt.replace(/\s+/g, " ").trim(), WIDTH - 2 * MARGIN), MARGIN, 72, "650 27px", colour("text"));
  brush.font = `400 23px ${style.fontFamily}`;
  let y = 112;
  for (const line of linesOf(brush, stage.status.sentence.textContent, WIDTH - 2 * MARGIN).slice(0, 2)) {
    write(line, MARGIN, y, "400 23px", colour("muted"));
    y += 33;
  }
  drawTokens(brush, stage.view.elements.map(drawn), style.fontFamily, y + 4, colour("muted"));

  const scale = stage.legend.scale;
  const [low, high] = [...scale.querySelectorAll(".sol-value")].map((one) => one.textContent);
  let x = MARGIN + write(`${stage.legend.axis.name}  ${low}`, MARGIN, FOOT, "400 19px", colour("muted")) + 10;
  for (const step of scale.querySelectorAll(".sol-swatch")) {
    brush.fillStyle = getComputedStyle(step).backgroundColor;
    brush.fillRect(x, FOOT - 15, 9, 18);
    x += 9;
  }
  write(high, x + 10, FOOT, "400 19px", colour("muted"));
  const { kind, policy } = scheduleOf(run);
  const made = `${modelName(run.model)}, ${policy ? `policy ${modelName(policy)}` : SITE.schedules[kind] ?? kind} · SOL Explorer`;
  brush.textAlign = "right";
  write(made, WIDTH - MARGIN, FOOT, "400 19px", colour("muted"));
  return canvas;
}

/** @returns {Drawn} */
function drawn(token) {
  const style = getComputedStyle(token);
  const tint = style.getPropertyValue("--tint").trim();
  return { text: token.textContent.replace(/\u00a0/g, " "), tint, ink: style.color,
    isOther: token.classList.contains("is-other"), isLast: token.parentElement.lastElementChild === token };
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

function drawTokens(brush, tokens, font, top, muted) {
  let size;
  let laid;
  for (size of SIZES) {
    laid = layOut(brush, tokens, font, size, top);
    if (laid.isWhole) break;
  }
  for (const { token, x, y, width } of laid.places) {
    brush.fillStyle = token.tint;
    brush.beginPath();
    brush.roundRect(x, y - 1.05 * size, width, 1.38 * size, 4);
    brush.fill();
    brush.fillStyle = token.ink;
    brush.fillText(token.text, x + 0.06 * size, y, WIDTH - 2 * MARGIN);
    if (token.isOther) dotted(brush, token, x + 3, y + 0.2 * size, width - 6);
  }
  const last = laid.places.at(-1);
  if (laid.isWhole || !last) return;
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
