"""OpenVINO's prefill and decode steps, as ``decode_worker.py`` measures ours; answers lines.

Run by a Python that has openvino-genai and may have nothing else of ours. Arguments: a GGUF file,
threads, tokens a round. The first line of stdin is the text's token ids; each other one is
``[kind, action, context]``. Greedy, one sequence, the KV cache as OpenVINO keeps it by default
(8 bits). Nothing of a text is kept for the next one.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

import numpy


def _clock() -> Any:
    """A streamer with the times at which tokens came: OpenVINO's metrics leave a part out."""
    import openvino_genai

    class Clock(openvino_genai.StreamerBase):  # type: ignore[misc]  # another Python's package
        def __init__(self) -> None:
            super().__init__()
            self.times: list[float] = []

        def write(self, tokens: Any) -> Any:
            self.times.append(time.perf_counter())
            return openvino_genai.StreamingStatus.RUNNING

        def end(self) -> None:
            """Do nothing: nothing is held back."""

    return Clock()


def _pipeline(file: str, threads: int, longest: int) -> Any:
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False
    scheduler.max_num_batched_tokens = longest  # a text is read at once, as it is by default
    return openvino_genai.LLMPipeline(
        file, "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=threads
    )


def _measure(pipeline: Any, text: list[int], num_tokens: int) -> dict[str, float]:
    """Rates of reading a text to its next token, and of the steps after the first one."""
    import openvino
    import openvino_genai

    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = num_tokens + 2
    config.ignore_eos, config.do_sample, config.apply_chat_template = True, False, False
    ids = numpy.array([text], numpy.int64)
    tensors = openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids))
    clock, began = _clock(), time.perf_counter()
    pipeline.generate(openvino_genai.TokenizedInputs(*tensors), config, clock)
    first, second, *_, last = clock.times
    return {
        "prefill_tokens_per_s": len(text) / (first - began),
        "tokens_per_s": num_tokens / (last - second),
    }


def _reply(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark ends its workers
    file, threads, num_tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    text = json.loads(sys.stdin.readline())
    pipeline = _pipeline(file, threads, len(text) + num_tokens + 2)
    for _ in range(2):  # warm up: the first texts are read slower
        _measure(pipeline, text[:256], num_tokens)
    _reply({"pipeline": type(pipeline).__name__})
    for line in sys.stdin:
        _reply(_measure(pipeline, text[: json.loads(line)[2]], num_tokens))
