/**
 * llama.cpp's prefill and decode steps, as `decode_worker.py` measures ours; answers lines.
 *
 * Arguments: the folder that has node-llama-cpp in its node_modules, the GGUF file, threads, tokens
 * a round. The first line of stdin is the text's token ids; each other one is
 * `[kind, action, context]`. Greedy, one sequence, the KV cache as llama.cpp keeps it by default.
 * With flash attention a Q4_0 file was read 1.6 times as fast (512 and 2,048 tokens, AVX-512 Xeon).
 */
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [folder, file, threads, newTokens] = process.argv.slice(2);
const CHUNK = 512;
const found = createRequire(join(resolve(folder), "x.js")).resolve("node-llama-cpp");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(found).href);

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const text = JSON.parse((await lines.next()).value);
const llama = await getLlama({
  gpu: false,
  build: "never",
  maxThreads: Number(threads),
  logLevel: LlamaLogLevel.error,
});
const model = await llama.loadModel({ modelPath: file });
const context = await model.createContext({
  contextSize: text.length + Number(newTokens) + 2,
  threads: Number(threads),
  batchSize: CHUNK,
  flashAttention: true,
});
const sequence = context.getSequence();

/** Rates of reading a text of so many tokens to its next token, and of the steps after the first one. */
async function measure(length) {
  await sequence.clearHistory();
  const began = performance.now();
  const steps = sequence.evaluate(text.slice(0, length), { temperature: 0, yieldEogToken: true });
  await steps.next();
  const read = performance.now();
  await steps.next(); // not timed, as with ours
  const first = performance.now();
  for (let done = 0; done < Number(newTokens); done++) await steps.next();
  const last = performance.now();
  await steps.return();
  return {
    prefill_tokens_per_s: (1000 * length) / (read - began),
    tokens_per_s: (1000 * Number(newTokens)) / (last - first),
  };
}

const reply = (record) => process.stdout.write(JSON.stringify(record) + "\n");
await measure(Math.min(256, text.length)); // warm up
reply({ max_context: model.trainContextSize });
for await (const line of lines) reply(await measure(JSON.parse(line)[2]));
process.exit(0);
