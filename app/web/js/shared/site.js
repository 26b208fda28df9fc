// Python's constants, once for all tabs; an exported page carries its own copy.

import { pageElement } from "./dom.js";

/** @type {Site} */
export const SITE = JSON.parse(pageElement("#sol-site").textContent);
