// A model card drawn from its Markdown, without the title, which the page has. It may come from anybody:
// all of it goes in as text, links lead to https alone, and what is not understood stays as it was written.

import { h } from "../shared/dom.js";
import { count } from "../shared/format.js";

const INLINE = new RegExp([/`([^`]+)`/, /\*\*([^*]+)\*\*/, /\*([^*\s][^*]*)\*/,
  /\[([^\]]+)\]\((https:\/\/[^\s)]+)\)/, /\b(arXiv):(\d{4}\.\d{4,5})\b/,
].map(({ source }) => source).join("|"), "g");

const LANGUAGES = { json: "JSON", python: "Python" };
const LONG_CODE = 15; // lines, beyond which a block is folded

/** A card's nodes. @param {string} text @param {string} policy its name @returns {HTMLElement[]} */
export function cardNodes(text, policy) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const nodes = [];
  const facts = takeFacts(lines);
  if (facts.length) {
    nodes.push(h("dl", { class: "sol-model-facts" },
      facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
  }
  const title = lines.findIndex((line) => line.trim());
  if (lines[title] === `# ${policy}`) lines.splice(title, 1);
  while (lines.length) nodes.push(...takeBlock(lines));
  return nodes;
}

// "name: value" between two lines of dashes at the beginning.
function takeFacts(lines) {
  const end = lines[0] === "---" ? lines.indexOf("---", 1) : -1;
  if (end < 0) return [];
  return lines.splice(0, end + 1).slice(1, -1).map((line) => /^([\w-]+):\s*(.+)$/.exec(line)).filter(Boolean)
    .map(([, name, value]) => [name.replace(/_/g, " "), value.replace(/^\[(.*)\]$/, "$1")]);
}

const startsBlock = (line) => /^(#{1,6}\s|```|[-*]\s|\s*$)/.test(line);

function takeBlock(lines) {
  const first = lines.shift();
  if (!first.trim()) return [];
  const heading = /^(#{1,6})\s+(.*)$/.exec(first);
  if (heading) return [h(heading[1].length === 1 ? "h3" : "h4", {}, inline(heading[2]))];
  if (first.startsWith("```")) {
    const code = takeWhile(lines, (line) => !line.startsWith("```"));
    lines.shift();
    const block = h("pre", { class: "sol-card-code", tabindex: "0", dir: "ltr" }, code.join("\n"));
    const title = `${LANGUAGES[first.slice(3).trim()] ?? "Code"}, ${count(code.length, "line")}`;
    return [code.length > LONG_CODE ? h("details", {}, h("summary", {}, title), block) : block];
  }
  if (/^[-*]\s/.test(first)) {
    const items = [first.slice(2)];
    while (lines.length && (/^[-*]\s/.test(lines[0]) || /^\s+\S/.test(lines[0]))) {
      const line = lines.shift();
      if (/^[-*]\s/.test(line)) items.push(line.slice(2));
      else items[items.length - 1] += ` ${line.trim()}`;
    }
    return [h("ul", {}, items.map((item) => h("li", {}, inline(item))))];
  }
  return [h("p", {}, inline([first, ...takeWhile(lines, (line) => !startsBlock(line))].join(" ")))];
}

function takeWhile(lines, isPart) {
  const found = lines.findIndex((line) => !isPart(line));
  return lines.splice(0, found < 0 ? lines.length : found);
}

function inline(text) {
  const nodes = [];
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    const [all, code, bold, slanted, words, address, archive, number] = found;
    nodes.push(text.slice(at, found.index));
    at = found.index + all.length;
    if (code !== undefined) nodes.push(h("code", {}, code));
    else if (bold !== undefined) nodes.push(h("b", {}, bold));
    else if (slanted !== undefined) nodes.push(h("em", {}, slanted));
    else nodes.push(link(words ?? `${archive}:${number}`, address ?? `https://arxiv.org/abs/${number}`));
  }
  return [...nodes, text.slice(at)];
}

const link = (words, href) => h("a", { href, rel: "noopener noreferrer nofollow", target: "_blank" }, words);
