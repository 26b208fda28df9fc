"""``launch.py bench``: decoding, rollouts, GPU kernels, the noise floor and memory, measured."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.cli import options as cli
from app.cli.terminal import record_text
from app.formats import json_safe
from app.host.console import Console
from app.host.paths import DataDir
from sol_core.actions import DEFAULT_GRID
from sol_core.files.paths import DEFAULT_MODEL, SHIPPED_POLICY

ONLY_JSON = ("tokens_per_s", "tokens_per_s_rounds")  # measurements that the text has in tables
HELP = "measure decoding, batched rollouts, GPU kernels, the noise floor or memory"
NUMBERS = {
    "context": "tokens before the first step (256; kernels: 2048)",
    "new-tokens": "decode: tokens per round and contestant (24)",
}
TEXTS = {
    "compile sm_75,…": "kernels: compile for these cards alone",
    "shape": "SmolLM2-135M, Llama-3.2-1B or Llama-3.1-8B; decode: a model of random weights, also "
    "0.6B, or layers=16,hidden=1536,intermediate=6144,heads=24,kv_heads=8,head_size=64,vocab=49152",
}
PROGRAMS = {
    "llama-cpp FOLDER": "decode: also measure llama.cpp on the same GGUF file and its copy in Q4_0;"
    " the folder is one where 'npm install node-llama-cpp' was run",
    "openvino PYTHON": "decode: also measure OpenVINO on the copy in Q4_0; a Python where "
    "'pip install openvino-genai' was run",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        choices=tuple(MEASURES),
        help="decode: one text, read and continued, against transformers and the memory bandwidth; "
        "where there is a GPU (and SOL_DEVICE does not name the CPU), models of random weights "
        "there, against transformers in CUDA graphs, with a line to send back; "
        "rollout: an update of the trainer, against the rate of matrix products; "
        "kernels: registers and spills of the Triton kernels, and times where there is a GPU; "
        "noise: how far a token's numbers move where two computations differ in the last bit; "
        "memory: parts of memory, kept at random, read against all of it",
    )
    cli.add_texts(parser, NUMBERS, type=int)
    for name, default, text in (
        ("rows", 64, "rollout: schedules decoded at once"),
        ("steps", 16, "rollout: decode steps"),
        ("group", 16, "rollout: schedules per window, which share its prefix"),
        ("rounds", 5, "alternating rounds"),
        ("storage", "bf16", "decode --shape: bf16, fp32, or q4 for blocks of 4 bits"),
    ):
        cli.add_value(parser, name, default, "", help=f"{text} (%(default)s)")
    cli.add_texts(parser, TEXTS)
    cli.add_texts(parser, PROGRAMS, type=Path)
    cli.add_flag(parser, "no-compile", "decode: without torch.compile's transformers")
    cli.add_grid(parser, DEFAULT_GRID, DEFAULT_GRID)
    cli.add_model(parser, with_device=False)
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    console = Console()
    data_dir = cli.open_data_dir(args)
    console.say("measuring; leave the machine alone for some minutes")
    result = json_safe(MEASURES[args.what](args, data_dir, console))
    console.clear()
    shown = {name: value for name, value in result.items() if name not in ONLY_JSON}
    cli.print_result(args, result, record_text(shown))
    return 1 if result.get("problems") else 0


def _given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Options, but for those that are left to a measurement's own default."""
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def _decode(args: argparse.Namespace, data_dir: DataDir, console: Console) -> dict[str, Any]:
    from app.bench.card_decode import bench_on_card
    from app.bench.decode import BenchOptions, bench_decode
    from sol_core.actions import grid_named
    from sol_core.files.assets import ensure_default_gguf
    from sol_core.files.gguf_folder import is_gguf_name
    from sol_core.models.devices import pick_device, pick_dtype
    from sol_core.models.loading import locate_model

    device = pick_device("auto")
    if device.type == "cuda" and args.shape is None:
        asked = pick_dtype(args.dtype, device), grid_named(args.grid), console.progress
        return bench_on_card(device, *asked, data_dir=data_dir.root)
    names = ("context", "new_tokens", "rounds", "grid", "shape", "storage")
    made = BenchOptions(None, **_given(args, *names))
    if args.shape is not None:
        return bench_decode(made, console.progress)
    name, gguf = cli.model_name(args), None
    folder = locate_model(name, data_dir.root, console.progress)
    # The shipped policy belongs to the default model.
    policy = SHIPPED_POLICY if name == DEFAULT_MODEL else None
    if (args.llama_cpp or args.openvino) and name == DEFAULT_MODEL:
        gguf = ensure_default_gguf(data_dir.root, console.progress)
    elif is_gguf_name(name):
        gguf = Path(name)
    of_model = {"model_folder": folder, "dtype": args.dtype, "policy_folder": policy}
    files = {"gguf": gguf, "data_dir": data_dir.root}
    with_others = _given(args, "llama_cpp", "openvino") | {"compiled": not args.no_compile}
    given: dict[str, Any] = {**of_model, **files, **with_others}
    return bench_decode(replace(made, **given), console.progress)


def _rollout(args: argparse.Namespace, data_dir: DataDir, console: Console) -> dict[str, Any]:
    from app.bench.rollout import RolloutOptions, bench_rollout
    from sol_core.models.loading import load_language_model

    names = ("context", "rows", "steps", "group", "rounds", "grid")
    options = RolloutOptions(**_given(args, *names))
    model = load_language_model(
        cli.model_name(args), data_dir=data_dir.root, dtype=args.dtype, on_progress=console.progress
    )
    return bench_rollout(model, options, console.progress)


def _noise(args: argparse.Namespace, data_dir: DataDir, console: Console) -> dict[str, Any]:
    from itertools import islice

    from app.bench.noise import CONTEXT, STEPS, bench_noise
    from sol_core.actions import grid_named
    from sol_core.corpus.documents import BUILTIN
    from sol_core.evaluation.measure_tables import joined_texts
    from sol_core.inspection.report import HARMLESS_KL
    from sol_core.models.loading import load_language_model

    model = load_language_model(
        cli.model_name(args), data_dir=data_dir.root, dtype=args.dtype, on_progress=console.progress
    )
    texts = joined_texts(model, BUILTIN, data_dir.root, CONTEXT + STEPS + 1)
    some = list(islice(texts, args.rounds))
    grid = grid_named(args.grid)
    return bench_noise(model, some, grid, console.progress, harmless_kl=HARMLESS_KL)


def _memory(args: argparse.Namespace, data_dir: DataDir, console: Console) -> dict[str, Any]:
    from app.bench.memory import bench_memory

    return bench_memory(console.progress, **_given(args, "rounds"))


def _kernels(args: argparse.Namespace, data_dir: DataDir, console: Console) -> dict[str, Any]:
    from app.bench.kernels import bench_kernels, compile_kernels

    if args.compile is not None:
        return compile_kernels(args.compile)
    shape = {} if args.shape is None else {"model": args.shape}
    return bench_kernels(console.progress, **_given(args, "context", "grid"), **shape)


MEASURES = {
    "decode": _decode,
    "rollout": _rollout,
    "kernels": _kernels,
    "noise": _noise,
    "memory": _memory,
}
