/**
 * llama.cpp's decode steps, as `decode_worker.py` measures ours: a process that answers lines.
 *
 * Arguments: the folder that has node-llama-cpp in its node_modules, the GGUF file, threads, tokens
 * a round, the longest context. A line of stdin is `[kind, budget, context]`; the answer is
 * `{"tokens_per_s": …}`. Greedy, one sequence, the KV cache as llama.cpp keeps it by default.
 */
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [folder, file, threads, newTokens, longest] = process.argv.slice(2);
const CHUNK = 512;
const found = createRequire(join(resolve(folder), "x.js")).resolve("node-llama-cpp");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(found).href);

const llama = await getLlama({
  gpu: false,
  build: "never",
  maxThreads: Number(threads),
  logLevel: LlamaLogLevel.error,
});
const model = await llama.loadModel({ modelPath: file });
const contextSize = Number(longest) + Number(newTokens) + 2;
const context = await model.createContext({ contextSize, threads: Number(threads), batchSize: CHUNK });
const sequence = context.getSequence();

/** Tokens per second after a prompt of so many; a longer prompt begins as a shorter one does. */
async function measure(length) {
  if (sequence.nextTokenIndex > length)
    await sequence.eraseContextTokenRanges([{ start: length, end: sequence.nextTokenIndex }]);
  if (sequence.nextTokenIndex < length) {
    const tokens = Array.from({ length }, (_, i) => 100 + ((i * 7919) % 9900));
    await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(sequence.nextTokenIndex));
  }
  const steps = sequence.evaluate([100], { temperature: 0, yieldEogToken: true });
  await steps.next(); // the token after the prompt's last: not timed, as with ours
  const began = performance.now();
  for (let done = 0; done < Number(newTokens); done++) await steps.next();
  const seconds = (performance.now() - began) / 1000;
  await steps.return();
  return Number(newTokens) / seconds;
}

const reply = (record) => process.stdout.write(JSON.stringify(record) + "\n");
await measure(256); // warm up
reply({ max_context: model.trainContextSize });
for await (const line of createInterface({ input: process.stdin }))
  reply({ tokens_per_s: await measure(JSON.parse(line)[2]) });
process.exit(0);
