"""Compiles every Triton kernel as it ships, for GPUs that need not be there.

``python -m app.bench.ahead_of_time`` prints what the binaries need as one JSON list. It must
run in a process of its own without TRITON_INTERPRET.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels.activation_quantisation import quantise_rows
from kernels.channel_pruning import MAX_PRUNED, prune_rows
from kernels.gated_mlp import (
    MAX_ROWS,
    MlpPlan,
    MlpWeights,
    activate_with_triton,
    multiply_with_triton,
)
from kernels.gpu.triton_support import KERNEL_DTYPES, Launch, recorded_launches
from kernels.kv_write import NewTokens, rotate_and_write_with_triton
from kernels.page_attention import AttentionPlan, KVBlock
from kernels.page_attention.triton_dispatch import attend_with_triton, largest_head
from kernels.page_scorers import INT4
from kernels.quantisation_levels import SCALE_BLOCK
from kernels.residual import MAX_AT_ONCE, Residual, enter_with_triton
from sol_core.files.fetch import own_python_path

# Shared memory that one block may use, bytes (CUDA C++ Programming Guide, compute capabilities):
# T4, A100, RTX 3090 and A10, RTX 4090 and L4, H100, B200, RTX 5090.
SHARED_LIMIT = {
    **{75: 65_536, 80: 166_912, 86: 101_376, 89: 101_376},
    **{90: 232_448, 100: 232_448, 120: 101_376},
}
ARCHITECTURES = (80, 90, 100)  # those that are compiled unasked
HEAD_SIZES = (64, 128, 256)  # others run padded to these
GROUPS = (1, 16)  # rows that share a prefix
PAGE_SIZES = (1, 4, 8, 16, 32, 64)  # each weighed in a tile of its own
PAGE_COUNTS = (512, 4096, 16384)  # block sizes of the kernels that rank pages
# Block sizes of what a program does with a row.
WIDTHS = (1024, MAX_AT_ONCE, 4096, 8192, 16384)


@dataclass(frozen=True, slots=True)
class Binary:
    """One kernel compiled for one architecture, and the resources it takes."""

    kernel: str  # its name; ``variant`` tells its compile-time choices apart
    variant: str
    architecture: int  # one of ``SHARED_LIMIT``
    registers: int  # per thread. spills: bytes per thread. shared_bytes: per program
    spills: int
    shared_bytes: int
    num_warps: int  # 32 threads each
    error: str = ""  # why it was not compiled, else empty


def compile_in_child(architectures: Sequence[int] = ARCHITECTURES) -> list[Binary]:
    """All binaries, made by a child process so that neither interpreter nor memory leak in."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = own_python_path()
    command = [sys.executable, "-P", "-m", __name__, *map(str, architectures)]
    ends = subprocess.PIPE
    with subprocess.Popen(  # in a group of its own, whose workers end with it
        command, env=environment, stdout=ends, stderr=ends, text=True, start_new_session=True
    ) as child:
        try:
            listed, said = child.communicate()
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
    if child.returncode != 0:
        raise RuntimeError(f"compiling the kernels failed:\n{said[-2000:]}")
    return [Binary(**record) for record in json.loads(listed)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile for the architectures named and print the list."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("architectures", nargs="*", type=int, help="75, 80, …; default 80 90 100")
    parser.add_argument("--sample", action="store_true", help="each kernel's last configuration")
    options = parser.parse_args(arguments)
    wanted = options.architectures or list(ARCHITECTURES)
    if not set(wanted) <= set(SHARED_LIMIT):
        parser.error(f"architectures must be among {tuple(SHARED_LIMIT)}, got {wanted}")
    numbers = dict(enumerate(shipped_launches()))
    if options.sample:
        last = {launch.kernel: number for number, launch in numbers.items()}
        numbers = {number: numbers[number] for number in last.values()}
    work = [(number, arch) for number in numbers for arch in wanted]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        binaries = list(pool.map(_compile_numbered, work, chunksize=4))
    sys.stdout.write(json.dumps([asdict(binary) for binary in binaries]) + "\n")
    return 0


def _compile_numbered(work: tuple[int, int]) -> Binary:
    launch, architecture = shipped_launches()[work[0]], work[1]
    named = launch.kernel.__name__, _variant(launch), architecture
    try:
        return Binary(*named, *_compile(launch, architecture))
    except Exception as error:  # of Triton's compiler or of its tools, which raise many kinds
        return Binary(*named, 0, 0, 0, 0, f"{type(error).__name__}: {error}".strip())


def _compile(launch: Launch, architecture: int) -> tuple[int, int, int, int]:
    """Registers, spills, shared bytes and warps."""
    made = compiled(launch, architecture)
    return *_resources(made.asm["cubin"]), made.metadata.shared, made.metadata.num_warps


def compiled(launch: Launch, architecture: int) -> Any:
    """Compile a launch with Triton."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = dict(launch.signature) | {name: "constexpr" for name, _ in launch.constants}
    # Torch's allocations are aligned, which the launcher tells the compiler too.
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, (name, type_name) in enumerate(launch.signature)
        if type_name.startswith("*") or name in launch.aligned
    }
    source = ASTSource(launch.kernel, types, dict(launch.constants), aligned)
    options = {"enable_fp_fusion": True, **dict(launch.options)}
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def _variant(launch: Launch) -> str:
    """Compile-time choices, and the 16-bit or 32-bit types of the data."""
    constants = [f"{name}={value}" for name, value in launch.constants]
    types = {kind for _, kind in launch.signature if kind in ("*bf16", "*fp16")}
    return " ".join([*constants, *sorted(kind[1:] for kind in types)])


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack and local memory per thread, from the binary."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = {name: int(value) for name, value in re.findall(r"(\w+):(\d+)", report)}
    return used["REG"], used["STACK"] + used["LOCAL"]


@cache
def shipped_launches() -> tuple[Launch, ...]:
    """Distinct launches of all operations in a fixed order, noted instead of run."""
    with recorded_launches() as record:
        for dtype in KERNEL_DTYPES:
            _attend_and_write(dtype)
            _multiply(dtype)
        for pages in PAGE_COUNTS:
            _attend(torch.bfloat16, 64, 1, pages)
        for page_size in PAGE_SIZES:
            for head_size in HEAD_SIZES:
                for group in GROUPS:
                    _attend(torch.bfloat16, head_size, group, 128, page_size)
        for width in WIDTHS:
            _rows(width)
    return tuple(dict.fromkeys(map(_specialised, record)))


def _specialised(launch: Launch) -> Launch:
    """The launch without what its kernel is not compiled for."""
    sizes = {each.name for each in launch.kernel.params if not each.do_not_specialize}
    return replace(launch, aligned=tuple(filter(sizes.__contains__, launch.aligned)))


def _attend_and_write(dtype: torch.dtype) -> None:
    for head_size in HEAD_SIZES:
        if head_size > largest_head(dtype):
            continue
        for group in GROUPS:
            _attend(dtype, head_size, group, 128)
        cached = torch.empty(1, 1, 8, head_size, dtype=dtype)
        codes = torch.empty(1, 1, 1, head_size // 8, 8, 4, dtype=torch.uint8)
        scales = torch.empty(1, 1, 1, 2, 8, dtype=torch.bfloat16)
        angles = torch.empty(1, head_size)
        for heads in (torch.empty(1, 3, head_size), torch.empty(1, 3, head_size, dtype=dtype)):
            new = NewTokens(heads, angles, angles, 0.125)
            rotate_and_write_with_triton(new, (cached, cached), _counts(1), (codes, scales))


def _attend(dtype: torch.dtype, head_size: int, rows: int, pages: int, page_size: int = 8) -> None:
    """Run one step of rows with 4 heads over one sequence."""
    tokens = page_size * pages
    keys = torch.empty(1, 1, tokens, head_size, dtype=dtype)
    octets = (1, 1, -(-tokens // 8))
    plan = AttentionPlan(
        page_size,
        torch.empty(rows, tokens, dtype=torch.bool),
        torch.empty(rows, pages, dtype=torch.bool),
        _counts(rows),
        torch.empty(rows, pages, dtype=torch.int64),
        INT4,
        "group",
        torch.empty(rows),
    )
    codes = torch.empty(*octets, head_size // 8, 8, 4, dtype=torch.uint8)
    scales = torch.empty(*octets, 2, 8, dtype=torch.bfloat16)
    block = KVBlock(keys, keys, None, codes, scales)
    for mixed in (torch.float32, dtype):
        attend_with_triton(torch.empty(rows, 4, head_size), [block], plan, 0.4, mixed)


def _multiply(dtype: torch.dtype) -> None:
    """MLPs of few and many rows, narrow (channels are split) and wide (fused activation)."""
    for rows in (1, MAX_ROWS):
        for width, inner in ((512, 1024), (64, 16_384)):
            weights = MlpWeights(
                torch.empty(width, 2 * inner, dtype=dtype),
                torch.empty(inner, width, dtype=dtype),
                down_norms=torch.empty(inner),
            )
            for plan in (MlpPlan(_counts(rows)), MlpPlan(_counts(rows), inner_kept=_counts(rows))):
                residual = _residual(torch.empty(rows, width), dtype)
                multiply_with_triton(residual, weights, plan)


def _rows(width: int) -> None:
    """The kernels with one program a row; they compute in fp32 whatever the dtype."""
    for dtype in KERNEL_DTYPES:
        rows = torch.empty(1, width, dtype=dtype)
        outer = min(width, MAX_PRUNED)
        weights = MlpWeights(
            torch.empty(outer, 2 * width, dtype=dtype),
            torch.empty(width, outer, dtype=dtype),
            down_norms=torch.empty(width),
        )
        for block in (0, SCALE_BLOCK):
            quantise_rows(rows, _counts(1), block)
            for kept in (None, _counts(1)):
                plan = MlpPlan(_counts(1), _counts(1), True, kept, block)
                multiply_with_triton(_residual(torch.empty(1, outer), dtype), weights, plan)
        if width <= MAX_AT_ONCE:
            multiply_with_triton(_residual(torch.empty(1, outer), dtype), weights, MlpPlan())
        entering = _residual(torch.empty(1, width), dtype)
        norms_update = entering._replace(update=entering.hidden)  # in fp32
        for residual in (entering, norms_update):
            for entered in (dtype, torch.float32):
                enter_with_triton(residual, entered)
        activate_with_triton(torch.empty(1, 2 * width, dtype=dtype), "silu")
    if width <= MAX_PRUNED:
        prune_rows(torch.empty(1, width), _counts(1))


def _residual(hidden: Tensor, dtype: torch.dtype) -> Residual:
    return Residual(hidden, hidden.to(dtype), torch.empty(hidden.shape[1]), 1e-5)


def _counts(rows: int) -> Tensor:
    return torch.empty(rows, dtype=torch.int64)


if __name__ == "__main__":
    sys.exit(main())
