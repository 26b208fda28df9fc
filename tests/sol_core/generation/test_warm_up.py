"""Warming up compiles what decoding needs, and the page says when it waits for that."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sol_core.generation import warm_up
from sol_core.generation.warm_up import COMPILING
from sol_core.models import FrozenLM
from sol_core.models.card.small_model import SMALL_SPEC, small_tensors
from sol_core.models.weights import arrange_weights
from tests.support.tiny_language_model import save_model_folder
from tests.support.tiny_models import FAMILIES

ROOT = Path(__file__).resolve().parents[3]
# Counts what Numba has compiled for every dispatcher of the kernels, then decodes for real.
CHILD = """
import itertools, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import kernels
from numba.core.dispatcher import Dispatcher
from sol_core.generation.warm_up import warm_up_kernels

def compiled():
    found = {}
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("kernels."):
            for name, value in vars(module).items():
                if isinstance(value, Dispatcher) and value.__module__ == module.__name__:
                    found[module.__name__, name] = set(map(str, value.signatures))
    return found

dtype, bits = getattr(torch, sys.argv[1]), int(sys.argv[2]) if sys.argv[2] else None
before = torch.get_rng_state()
warm_up_kernels(dtype, bits)
assert torch.equal(before, torch.get_rng_state()), "randomness of others is left alone"
warm = compiled()
assert len(warm) > 5

from sol_core.actions import GRIDS, PAPER, Action
from sol_core.models import FrozenLM
from sol_core.models.loading import load_language_model
from sol_core.models.card.small_model import SMALL_SPEC, small_tensors
from sol_core.models.weights import arrange_weights
from sol_core.generation import warm_up
from sol_core.decoding.loop import DecodeOptions, decode
from sol_core.decoding.prefix import prefill_token

if bits is None:
    place = {"data_dir": Path(sys.argv[3]), "device": "cpu"}
    lm = load_language_model(sys.argv[3], dtype=sys.argv[1], **place).lm
else:
    tensors, spec = small_tensors(), SMALL_SPEC
    blocks = warm_up._blocks(tensors, bits)
    lm = FrozenLM(spec, arrange_weights(tensors, spec, dtype, blocks=blocks))
shapes = ((1, 1), (1, 3), (2, 16), (24, 1))
for (texts, group), how in itertools.product(shapes, (PAPER, GRIDS["default"].mechanisms)):
    cache = lm.new_cache(texts, 30, page_size=8)
    lm.prefill(torch.ones(texts, 29, dtype=torch.int64), cache)
    state = prefill_token(lm, torch.ones(texts, 1, dtype=torch.int64), cache, how)
    rows = warm_up._rows(texts * group)
    options, cache = DecodeOptions(6, how, batched=True), cache.branch(group, 6)
    for _ in decode(lm, cache, [1] * texts, rows, lambda step: [1] * texts, options, state):
        pass
late = {key: value - warm.get(key, set()) for key, value in compiled().items()}
late = {key: value for key, value in late.items() if value}
sys.exit(f"compiled only when it was needed: {late}" if late else 0)
"""


def _run(*arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of other proportions than the one that warms up."""
    return str(save_model_folder(tmp_path_factory.mktemp("m"), FAMILIES[0].name, starts=False))


@pytest.mark.timeout(900)  # minutes where no kernel was compiled before
@pytest.mark.parametrize(
    ("dtype", "bits"), [("float32", ""), ("bfloat16", ""), ("float32", "4"), ("float32", "8")]
)
def test_nothing_is_left_to_compile_for_decoding(dtype, bits, saved):
    done = _run("-c", CHILD, dtype, bits, saved)
    assert done.returncode == 0, done.stderr


def test_a_program_whose_model_cannot_be_loaded_ends_as_others_do(tmp_path):
    code = """
import sys, time
from sol_core import SolError, load_model
from sol_core.generation import warm_up
warm_up.warm_up_kernels = lambda *kind: (time.sleep(1), print("compiled", flush=True))
try:
    load_model("/no/such/model", device="cpu", data_dir=sys.argv[1])
except SolError:
    print("caught", flush=True)
"""
    done = _run("-c", code, str(tmp_path))
    assert (done.returncode, done.stdout.split()) == (0, ["caught", "compiled"]), done.stderr


def test_a_card_warms_up_on_the_model(monkeypatch, tmp_path):
    lm = FrozenLM(SMALL_SPEC, arrange_weights(small_tensors(), SMALL_SPEC, torch.float32))
    kinds = set()
    step = FrozenLM.decode_step

    def watch(self, tokens, cache, actions, **how):
        kinds.add((actions[0].is_dense, how["mechanisms"].page_scorer))
        return step(self, tokens, cache, actions, **how)

    monkeypatch.setattr(FrozenLM, "decode_step", watch)
    monkeypatch.setattr(warm_up, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(
        "sol_core.models.loading.load_language_model", lambda *_, **__: SimpleNamespace(lm=lm)
    )
    monkeypatch.setattr(warm_up, "tune", lambda *_: None)
    said = []
    options = {"data_dir": tmp_path, "dtype": "float32", "device": "cpu"}
    warm_up.load_warm(str(tmp_path), **options, on_progress=lambda text, part: said.append(text))
    assert kinds == {(dense, scorer) for dense in (True, False) for scorer in ("quest", "int4")}
    assert COMPILING in said
