"""Workers of ``bench decode``: ours on a tiny model, the others with stand-ins."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from app.bench import decode, decode_worker
from app.bench.decode import BenchOptions, _command, _Worker
from sol_core.actions import DEFAULT_GRID, grid_named
from sol_core.decoding.prefix import read_prefix
from sol_core.errors import ConfigError, SolError
from tests.support.tiny_language_model import make_long_model

TEXT = list(range(100, 141))
OPENVINO = """
class Tensor:
    def __init__(self, data):
        self.data = data
"""
OPENVINO_GENAI = """
import sys
class StreamingStatus:
    RUNNING = 0
class StreamerBase:
    pass
class SchedulerConfig:
    pass
class GenerationConfig:
    pass
class TokenizedInputs:
    def __init__(self, ids, mask):
        self.ids = ids.data[0].tolist()
class LLMPipeline:
    def __init__(self, file, device, *, scheduler_config, INFERENCE_NUM_THREADS):
        assert (file, device) == ("tiny.gguf", "CPU")
        assert scheduler_config.enable_prefix_caching is False
    def generate(self, inputs, config, streamer):
        print(inputs.ids[0], len(inputs.ids), config.max_new_tokens, file=sys.stderr)
        assert config.min_new_tokens == config.max_new_tokens and not config.apply_chat_template
        for token in range(config.max_new_tokens):
            streamer.write(token)
        streamer.end()
"""
NODE_LLAMA_CPP = """
export const LlamaLogLevel = { error: "error" };
let reads = [];
const sequence = {
  async clearHistory() {},
  async *evaluate(tokens) {
    console.error([tokens[0], tokens.length].join(" "));
    for (let token = 0; ; token++) yield token;
  },
};
export const getLlama = async () => ({
  loadModel: async ({ modelPath }) => ({
    trainContextSize: modelPath.endsWith("tiny.gguf") ? 64 : 0,
    createContext: async () => ({ getSequence: () => sequence }),
  }),
});
"""


def _answers(command, environment=None):
    """Records of a worker that is given a text and asked once, and its standard error."""
    asked = [TEXT, ["read", [1.0, 1.0], 20]]
    lines = "".join(f"{json.dumps(line)}\n" for line in asked)
    done = subprocess.run(
        command, input=lines, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.splitlines()


def _is_measured(record):
    rates = record["prefill_tokens_per_s"], record["tokens_per_s"]
    return len(record) == 2 and min(rates) > 0


def test_openvino_reads_the_text_anew_for_each_answer(tmp_path):
    (tmp_path / "openvino.py").write_text(OPENVINO)
    (tmp_path / "openvino_genai.py").write_text(OPENVINO_GENAI)
    options = BenchOptions(
        None, openvino=Path(sys.executable), gguf=Path("tiny.gguf"), new_tokens=3
    )
    command = _command("openvino", "Q4_0", options, {"Q4_0": Path("tiny.gguf")})
    (ready, answer), calls = _answers(command, {"PYTHONPATH": str(tmp_path)})
    assert ready == {"pipeline": "LLMPipeline"}
    assert _is_measured(answer)
    assert calls == ["100 41 5", "100 41 5", "100 20 5"]  # it warms up with all of so short a text


def test_llama_cpp_reads_the_text_anew_for_each_answer(tmp_path):
    if not shutil.which("node"):
        pytest.skip("Node.js is not there")
    package = tmp_path / "node_modules" / "node-llama-cpp"
    package.mkdir(parents=True)
    (package / "index.mjs").write_text(NODE_LLAMA_CPP)
    (package / "package.json").write_text('{"main": "index.mjs"}')
    options = BenchOptions(None, llama_cpp=tmp_path, gguf=Path("tiny.gguf"), new_tokens=3)
    command = _command("llama_cpp", "Q4_1", options, {"Q4_1": Path("tiny.gguf")})
    (ready, answer), calls = _answers(command)
    assert ready == {"max_context": 64}
    assert _is_measured(answer)
    assert calls == ["100 41", "100 20"]


def test_ours_reads_a_text_and_goes_on_with_its_next_token(monkeypatch):
    lm, grid = make_long_model().lm, grid_named(DEFAULT_GRID)
    cache = read_prefix(lm, TEXT[:40], 8).cache
    caches = {at: cache.branch(1, 4, [at]) for at in (1, 20)}
    ours = decode_worker._Ours(lm, None, 3, grid, TEXT, caches)
    fed, step = [], lm.decode_step

    def watched(tokens, cache, *args, **more):
        fed.append((int(tokens[0]), cache.own_lengths[0]))
        return step(tokens, cache, *args, **more)

    monkeypatch.setattr(lm, "decode_step", watched)
    for context in caches:
        fed.clear()
        assert _is_measured(ours.measure("read", (1.0, 1.0), context))
        assert fed[:2] == [(TEXT[context - 1], context - 1), (TEXT[context], context)]
        assert len(fed) == 2 + 3


def test_transformers_time_to_the_first_token_is_its_prefill(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(decode_worker.time, "perf_counter", lambda: now[0])

    class Model:
        def generate(self, tokens, *, max_new_tokens, **more):
            assert torch.equal(tokens, torch.tensor([TEXT]))
            now[0] += 4.0 + 0.5 * (max_new_tokens - 1)

    rates = decode_worker._measure_transformers(Model(), None, TEXT, 24)
    assert rates == {"prefill_tokens_per_s": len(TEXT) / 4, "tokens_per_s": 2.0}


def test_a_program_that_cannot_start_is_one_error():
    with pytest.raises(SolError, match="worker ended early"):
        _Worker([sys.executable, "-c", ""], "nothing", lambda message, share: None, [1] * 100_000)
    with pytest.raises(ConfigError, match="openvino must be a Python"):
        BenchOptions(None, openvino=Path("no/such/python"), gguf=Path("tiny.gguf"))
    with pytest.raises(ConfigError, match="this model has none"):
        BenchOptions(None, openvino=Path(sys.executable))


def test_both_files_are_read_and_a_q4_0_file_once(monkeypatch):
    kinds = {"a": "Q4_1", "b": "Q4_1", "head": "Q8_0"}
    monkeypatch.setattr(decode, "gguf_kinds", lambda path: kinds)
    monkeypatch.setattr(decode, "ensure_q4_0", lambda path, *rest: path.with_suffix(".copy"))
    options = BenchOptions(Path("model"), openvino=Path(sys.executable), gguf=Path("/tiny.gguf"))
    files = decode._gguf_files(options, lambda message, share: None)
    assert files == {"Q4_1": Path("/tiny.gguf"), "Q4_0": Path("/tiny.copy")}
    kinds |= {"a": "Q4_0", "b": "Q4_0"}
    files = decode._gguf_files(options, lambda message, share: None)
    assert files == {"Q4_0": Path("/tiny.gguf")}
