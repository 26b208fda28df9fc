// A page in a frame of another one, asked for by `embed=1`: tokens, one sentence and the legend, nothing to fill in.
// The style sheet hides the rest (css/runs/embed.css).

export const isEmbedded = new URLSearchParams(window.location.search).get("embed") === "1";

// Tells the style sheet.
export function markEmbedded() {
  document.documentElement.classList.toggle("sol-embed", isEmbedded);
}

const SIZE = { width: 760, height: 420 }; // of the frame, px

const quoted = (text) => String(text).replace(/[&"<>]/g, (sign) => `&#${sign.codePointAt(0)};`);

// The frame as HTML, to be pasted; whatever address and title hold is text in it.
export function frameCode(address, title) {
  const attributes = { src: address, title, ...SIZE, loading: "lazy", style: "border: 0" };
  return `<iframe ${Object.entries(attributes).map(([name, value]) => `${name}="${quoted(value)}"`).join(" ")}></iframe>`;
}
