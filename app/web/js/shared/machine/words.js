// One decode step in words: a caption, and all of it for who does not see the picture.

import { bitsText, count, percent, quantity } from "../format.js";
import { h } from "../dom.js";
import { spokenText, tokenNodes } from "../tokens/token_text.js";

const NOT_RECORDED = "which pages were read was not recorded";

// Of one layer: pages that a KV head reads, as many in every layer or their mean.
export const pagesRead = ({ share, pages }) => Math.max(1, Math.round(share * pages));

export const pagesText = (reads) => (reads ? `${pagesRead(reads)} of ${count(reads.pages, "page")} read in each layer`
  : NOT_RECORDED);

const mlpShare = ({ cost, dense_cost: dense }) => cost.mlp_bytes / dense.mlp_bytes;
const bitWords = (row) => `${bitsText(row.action.bit_width)} bits`;
export const bytesText = ({ cost, dense_cost: dense }) =>
  [quantity(cost.bytes_read, "B"), `of ${quantity(dense.bytes_read, "B")} read`];

export const captionNodes = (row, reads) => [`Token ${row.index + 1} “`, h("bdi", {}, tokenNodes(row.text)),
  `”: ${pagesText(reads)}, ${percent(mlpShare(row))} of the MLP, ${bitWords(row)}`];

// title: of who chose; shares: of the MLP's channels.
export function spokenStep(row, reads, [input, inner], title) {
  const pages = reads ? `${pagesText(reads)}, ${count(reads.layers, "layer")}` : NOT_RECORDED;
  return `One decode step. ${title}. Token ${row.index + 1}: ${spokenText(row.text)}. KV cache: ${pages}. `
    + `MLP: ${percent(mlpShare(row))} of its bytes, ${percent(input)} of the input channels, ${percent(inner)} of the `
    + `inner ones. ${bitWords(row)} of 16. ${bytesText(row).join(" ")}.`;
}
