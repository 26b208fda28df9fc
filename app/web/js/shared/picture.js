// A picture of a part of the page as it is drawn there: boxes with a colour, lines of text and drawings
// become SVG with plain colours, so that the file needs neither style sheet nor script.

import { fill, svg } from "./dom.js";
import { imageOf } from "./download.js";

const PICTURE_MARGIN = 14;
const PICTURE_HEAD = 34; // of the title, px

const scratch = document.createElement("canvas");

// For colours and measures.
function scratchBrush() {
  const brush = scratch.getContext("2d", { willReadFrequently: true });
  if (!brush) throw new Error("This browser is out of memory for a drawing.");
  return brush;
}

// [#rrggbb, opacity] of any CSS colour; other programs do not know the newer ways to write one.
/** @returns {[string, number]} */
function plainColour(css) {
  const brush = scratchBrush();
  brush.canvas.width = brush.canvas.height = 1;
  brush.fillStyle = css;
  brush.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = brush.getImageData(0, 0, 1, 1).data;
  return [`#${[red, green, blue].map((one) => one.toString(16).padStart(2, "0")).join("")}`, alpha / 255];
}

function pictureBox(box, style) {
  const [colour, opacity] = plainColour(style.backgroundColor);
  return opacity > 0 && box.width > 0 && svg("rect", { ...box, rx: parseFloat(style.borderTopLeftRadius) || 0, fill: colour,
    "fill-opacity": opacity < 1 && opacity.toFixed(2) });
}

function pictureOutline(box, style) {
  if (style.outlineStyle !== "solid") return null;
  const [stroke] = plainColour(style.outlineColor);
  return svg("rect", { ...box, fill: "none", stroke, "stroke-width": parseFloat(style.outlineWidth), rx: 3 });
}

function pictureText(node, at, style) {
  const range = document.createRange();
  range.selectNodeContents(node);
  const [line] = range.getClientRects();
  const text = node.data.replace(/\s+/g, " ").trim();
  if (!line || !text) return null;
  const brush = scratchBrush();
  brush.font = `${style.fontSize} ${style.fontFamily}`;
  const { fontBoundingBoxAscent: up, fontBoundingBoxDescent: down } = brush.measureText(text);
  const box = at(line);
  return svg("text", { x: box.x, y: box.y + (box.height - up - down) / 2 + up, fill: plainColour(style.color)[0],
    "font-size": style.fontSize, "font-weight": style.fontWeight }, text);
}

// A drawing with plain colours in place of styles.
export function pictureDrawing(node, box) {
  const copy = fill(node.cloneNode(true), { ...box, overflow: "visible" }, []);
  const shown = node.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((part, at) => {
    const style = getComputedStyle(shown[at]);
    for (const name of ["fill", "stroke"]) {
      if (style[name] === "none") { part.setAttribute(name, "none"); continue; }
      const [colour, opacity] = plainColour(style[name]);
      fill(part, { [name]: colour, [`${name}-opacity`]: opacity < 1 && opacity.toFixed(2) }, []);
    }
    for (const name of ["stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "vector-effect",
      "font-size"]) {
      part.setAttribute(name, style.getPropertyValue(name));
    }
  });
  return copy;
}

// The mark before a heading.
function pictureMark(node, box) {
  const style = getComputedStyle(node, "::before");
  const size = parseFloat(style.width);
  return style.content !== "none" && size > 0
    && pictureBox({ x: box.x, y: box.y + (box.height - size) / 2, width: size, height: size }, style);
}

// at(rectangle of the window): where it lies in the picture.
function pictureParts(node, at) {
  const style = getComputedStyle(node);
  if (node.nodeName === "svg") return [pictureDrawing(node, at(node.getBoundingClientRect()))];
  if (style.display === "none" || node.matches(".sol-offscreen, .sol-lens-mark, .sol-lens-fork")) return [];
  const box = at(node.getBoundingClientRect());
  const inside = [...node.childNodes].flatMap((child) => (child.nodeType === Node.TEXT_NODE
    ? [pictureText(child, at, style)] : child.nodeType === Node.ELEMENT_NODE ? pictureParts(child, at) : []));
  const { x, y, width, height } = box;
  return [pictureBox(box, style), pictureMark(node, box), ...(style.overflowX === "hidden"
    ? [svg("svg", { ...box, viewBox: `${x} ${y} ${width} ${height}` }, inside)] : inside), pictureOutline(box, style)];
}

// A data URL; form: "png" or "svg".
export async function pictureOf(node, title, form) {
  const origin = node.getBoundingClientRect();
  const at = ({ x, y, width, height }) => ({ x: +(x - origin.x + PICTURE_MARGIN).toFixed(2), width: +width.toFixed(2),
    y: +(y - origin.y + PICTURE_MARGIN + PICTURE_HEAD).toFixed(2), height: +height.toFixed(2) });
  const width = Math.ceil(origin.width) + 2 * PICTURE_MARGIN;
  const height = Math.ceil(origin.height) + 2 * PICTURE_MARGIN + PICTURE_HEAD;
  const style = getComputedStyle(node);
  const colour = (name) => plainColour(style.getPropertyValue(`--sol-${name}`))[0];
  return imageOf(svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "font-family": style.fontFamily },
    svg("rect", { width, height, fill: colour("panel") }),
    svg("text", { x: PICTURE_MARGIN, y: 28, "font-size": 15, "font-weight": 600, fill: colour("text") }, title),
    pictureParts(node, at)), form);
}
