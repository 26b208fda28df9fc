// Buttons that ask for a file.

import { chip, h } from "../dom.js";
import { quantity } from "../format.js";

const TEXT_FILES = ".txt,.md,.csv,.json,.py,.js,.html,.xml,.tex,.log,text/*";

// A button that asks for a file and rests until `take`, which reports its own failures, is done.
export function filePicker(label, accept, take, spoken = label) {
  const input = h("input", { type: "file", hidden: true, accept, "aria-label": spoken, onchange: async () => {
    const [file] = input.files;
    if (!file) return;
    button.disabled = true;
    await take(file);
    button.disabled = false;
    input.value = "";
  } });
  const button = chip(label, () => input.click());
  return h("span", { class: "sol-file-picker" }, button, input);
}

// A picker of a text file for a form; one may also be dropped on `box`. use(text) takes what is in it, and the form
// says why nothing was taken.
export function textFilePicker(form, box, maxCharacters, use) {
  const take = async (file) => {
    form.fail(null);
    try {
      use(await textOf(file, maxCharacters));
    } catch (error) {
      form.fail(error instanceof Error ? error.message : String(error));
    }
  };
  box.addEventListener("dragover", (event) => event.preventDefault());
  box.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });
  return filePicker("Choose a file…", TEXT_FILES, take);
}

// Throws an error with a message for the form. A character of UTF-8 takes at most 4 bytes.
async function textOf(file, maxCharacters) {
  if (file.size > 4 * maxCharacters) throw new Error(`${file.name} is larger than ${quantity(4 * maxCharacters, "B")}.`);
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (!text.includes("\0")) return text;
  } catch {
    // The same to the reader as a file with a zero byte.
  }
  throw new Error(`${file.name} is not UTF-8 text.`);
}
