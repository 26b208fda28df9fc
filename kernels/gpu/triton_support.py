"""Conditions, launches and refusals of the Triton kernels.

A kernel runs where its tensors are: on a CUDA device, or, for tests without one, on the CPU under
Triton's interpreter (``triton_on_cpu``). Others go to the reference (``by_kernels``). Triton itself
is imported by the files of the kernels, on first use.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_WIDTH = 16384  # of a row that one program has in its registers
# Each operation, and those whose kernels it starts. Replacing one of those replaces it too.
OPERATIONS: dict[str, tuple[str, ...]] = {
    "add_and_norm": (), "rotate_and_write": (), "page_attention": (),
    "gated_mlp": ("add_and_norm", "keep_largest_channels", "fake_quantise"),
    "keep_largest_channels": ("add_and_norm",), "fake_quantise": ("add_and_norm",),
}  # fmt: skip
MOST_COUNTERS = 2**18
_TYPE_NAMES = {
    torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16",
    torch.uint8: "*u8", torch.int32: "*i32", torch.int64: "*i64", float: "fp32", int: "i32",
}  # fmt: skip
P = ParamSpec("P")
ResultT = TypeVar("ResultT")
_log = logging.getLogger(__name__)


class KernelInputError(ValueError):
    """An argument that no implementation can work with: wrong shape, device or layout."""


class UnsupportedByKernel(KernelInputError):
    """An argument that the reference takes and the Triton kernel does not."""


class KernelNotStartedError(RuntimeError):
    """A kernel that Triton cannot compile for this card, or that does not fit it."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel start, as the compiler sees it: what ahead-of-time compilation needs."""

    kernel: Any  # the jitted function
    signature: tuple[tuple[str, str], ...]  # types of run-time arguments ("*bf16", "i32"), in order
    constants: tuple[tuple[str, Any], ...]  # compile-time arguments
    options: tuple[tuple[str, int], ...]  # num_warps and num_stages
    aligned: tuple[str, ...]  # whole numbers that are divisible by 16


class _State:
    """Switches of this process: interpreting on the CPU, where launches are noted, which
    operations are the reference's, and whether a kernel that does not start is an error."""

    on_cpu = False
    record: list[Launch] | None = None
    replaced: frozenset[str] = frozenset()
    must_start = False


def runs_triton(tensor: Tensor) -> bool:
    """Return whether Triton kernels are used for tensors on this one's device."""
    if tensor.device.type == "cuda":
        return _triton_starts()
    return _State.on_cpu and tensor.device.type in ("cpu", "meta")


@contextlib.contextmanager
def triton_on_cpu() -> Iterator[None]:
    """Send CPU tensors to the Triton kernels, which the interpreter then runs; for tests.

    Raises: RuntimeError unless the process was started with TRITON_INTERPRET=1.
    """
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("triton_on_cpu needs TRITON_INTERPRET=1 before Triton is imported")
    _State.on_cpu = True
    try:
        yield
    finally:
        _State.on_cpu = False


def use_reference(operations: Iterable[str]) -> None:
    """Send these of ``OPERATIONS``, and those that contain one, to their PyTorch references from
    now on, and no others."""
    named = frozenset(operations)
    _State.replaced = named | {name for name in OPERATIONS if named.intersection(OPERATIONS[name])}


def replaced_operations() -> frozenset[str]:
    """The operations that are computed by their references."""
    return _State.replaced


@contextlib.contextmanager
def kernels_must_start() -> Iterator[None]:
    """Raise KernelNotStartedError where an operation would be replaced; for a self-test."""
    _State.must_start = True
    try:
        yield
    finally:
        _State.must_start = False


@contextlib.contextmanager
def recorded_launches() -> Iterator[list[Launch]]:
    """Note what would be launched, without running it: outputs stay undefined.

    Tensors may be on the CPU, or on torch's "meta" device, which has no numbers to wait for.
    """
    _State.record, before = [], _State.record
    on_cpu, _State.on_cpu = _State.on_cpu, True
    try:
        yield _State.record
    finally:
        _State.record, _State.on_cpu = before, on_cpu


def counters(beside: Tensor, count: int) -> Tensor:
    """Return at least ``count`` int32 zeros on a tensor's device: programs count themselves there.

    All launches of a stream share them, as each sets them back to 0.
    """
    on_gpu = beside.device.type == "cuda"
    stream = torch.cuda.current_stream(beside.device).cuda_stream if on_gpu else 0
    require(count <= MOST_COUNTERS, f"counters must be at most {MOST_COUNTERS}", count)
    return _stream_counters(beside.device, stream)


@cache
def _stream_counters(device: torch.device, stream: int) -> Tensor:
    # Made by a step's first run, never in a capture, which follows it.
    return torch.zeros(MOST_COUNTERS, dtype=torch.int32, device=device)


def launch(
    kernel: Any,
    grid: tuple[int, ...],  # number of programs along up to three axes; none may be 0
    arguments: Mapping[str, Any],  # run-time arguments by name, in the kernel's order
    constants: Mapping[str, Any],  # compile-time arguments by name
    num_warps: int = 4,
    num_stages: int = 1,
) -> None:
    """Start a Triton kernel on the device of its tensors."""
    options = {"num_warps": num_warps, "num_stages": num_stages}
    if _State.record is not None:
        kinds = {name: getattr(value, "dtype", type(value)) for name, value in arguments.items()}
        signature = tuple((name, _TYPE_NAMES[kind]) for name, kind in kinds.items())
        numbers = ((name, value) for name, value in arguments.items() if isinstance(value, int))
        aligned = tuple(name for name, value in numbers if value % 16 == 0)
        chosen = tuple(constants.items()), tuple(options.items())
        _State.record.append(Launch(kernel, signature, *chosen, aligned))
        return
    # Stated, not defaulted: Triton 3.9 warns that the default will change.
    choices = {**constants, "enable_fp_fusion": True, **options}
    start(kernel, grid, list(arguments.values()), choices)


def start(
    kernel: Any, grid: tuple[int, ...], arguments: Sequence[Any], choices: Mapping[str, Any]
) -> None:
    """Hand a kernel to Triton, on the device of its tensors; ``choices`` are compile-time.

    Raises: KernelNotStartedError; an error of a card that is lost or whose memory is full.
    """
    device = next(value.device for value in arguments if isinstance(value, Tensor))
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        try:
            kernel[grid](*arguments, **choices)
        except Exception as error:  # of Triton, its tools and CUDA, of many kinds
            if not _is_this_kernels(error, device):
                raise
            reason = (str(error).strip().splitlines() or [""])[-1][:200]
            name = f"{kernel.__name__}: {type(error).__name__}"
            raise KernelNotStartedError(f"{name}: {reason}") from error


def by_kernels(
    operation: str, tensor: Tensor, run: Callable[P, ResultT], *given: P.args, **how: P.kwargs
) -> ResultT | None:
    """Run an operation's kernels; returns None where torch must compute it.

    That is where the tensor is not on a card, the operation (of ``OPERATIONS``) is replaced, only
    torch takes the arguments (``run``, which checks them, raises UnsupportedByKernel), and where a
    kernel does not start, which replaces the operation from then on. The log says so once.

    Raises: KernelInputError for arguments that are wrong for both.
    """
    if not runs_triton(tensor) or operation in _State.replaced:
        return None
    try:
        return run(*given, **how)
    except UnsupportedByKernel as error:
        _say_once(operation, str(error))
    except KernelNotStartedError as error:
        if _State.must_start:
            raise
        _say_once(operation, str(error))
        use_reference({*_State.replaced, operation})
    return None


def require(holds: bool, wanted: str, got: object) -> None:
    """Raise UnsupportedByKernel "WANTED, got GOT" unless it holds; of a tensor, shape and dtype."""
    if not holds:
        what = f"{list(got.shape)} {got.dtype}" if isinstance(got, Tensor) else got
        raise UnsupportedByKernel(f"{wanted}, got {what}")


def check_operands(
    wanted: Mapping[str, tuple[Tensor | None, tuple[int, ...], torch.dtype]],  # None passes
    beside: Tensor,
    *,
    contiguous: bool = True,  # False if strides do not matter
) -> None:
    """Raise unless each tensor has its shape and dtype, lies beside another and is contiguous:
    KernelInputError for what is wrong, UnsupportedByKernel for strides."""
    for name, (tensor, shape, dtype) in wanted.items():
        if tensor is None:
            continue
        if tensor.shape != shape or tensor.dtype != dtype:
            raise KernelInputError(
                f"{name} must be {list(shape)} {dtype}, got {list(tensor.shape)} {tensor.dtype}"
            )
        if tensor.device != beside.device:
            raise KernelInputError(f"{name} must be on {beside.device}, got {tensor.device}")
        if contiguous and not tensor.is_contiguous():
            raise UnsupportedByKernel(
                f"{name} must be contiguous (a channel's weights one after another), "
                f"got strides {tensor.stride()}"
            )


def check_rows(
    rows: Tensor, widest: int = MAX_WIDTH, dtypes: tuple[torch.dtype, ...] = KERNEL_DTYPES
) -> None:
    """Raises: UnsupportedByKernel for rows that only torch takes."""
    if rows.dim() != 2 or rows.dtype not in dtypes or rows.shape[1] > widest:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise UnsupportedByKernel(
            f"rows must be [R, C] {names} with C of at most {widest}, "
            f"got {list(rows.shape)} {rows.dtype}"
        )


def next_power_of_2(number: int) -> int:
    """The smallest power of two that is at least ``number``."""
    return 1 << max(0, number - 1).bit_length()


@cache
def _triton_starts() -> bool:
    try:
        importlib.import_module("triton")
    except ImportError as error:
        _log.warning("Triton kernels are off, torch is used instead: %s", error)
        return False
    return True


@cache
def _say_once(operation: str, reason: str) -> None:
    _log.warning("%s runs on PyTorch's reference, not on its Triton kernel: %s", operation, reason)


def _is_this_kernels(error: Exception, device: torch.device) -> bool:
    """Return whether one kernel failed and the card goes on."""
    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import OutOfResources, PTXASError

    if isinstance(error, (CompilationError, OutOfResources, PTXASError)):
        return True
    kinds = RuntimeError, OSError, subprocess.CalledProcessError
    is_full = isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)
    if device.type != "cuda" or is_full or not isinstance(error, kinds):
        return False
    try:  # in a capture, or after an error that lasts, this fails
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True
