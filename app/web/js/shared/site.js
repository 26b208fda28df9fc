// Python's constants, once for all tabs; an exported page carries its own copy.

/** @type {Site} */
export const SITE = JSON.parse(document.getElementById("sol-site").textContent);
