"""Compiles every Triton kernel as it ships, for GPUs that need not be there.

``python -m sol_core.speed.ahead_of_time`` prints what the binaries need as one JSON list. It must
run in a process of its own without TRITON_INTERPRET.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from kernels.gpu.triton_support import Launch
from sol_core.files.fetch import own_python_path
from sol_core.speed.shipped_launches import shipped_launches

# Shared memory that one block may use, bytes (CUDA C++ Programming Guide, compute capabilities):
# T4, A100, RTX 3090 and A10, RTX 4090 and L4, H100, B200, RTX 5090.
SHARED_LIMIT = {
    **{75: 65_536, 80: 166_912, 86: 101_376, 89: 101_376},
    **{90: 232_448, 100: 232_448, 120: 101_376},
}
ARCHITECTURES = (80, 90, 100)  # those that are compiled unasked


@dataclass(frozen=True, slots=True)
class Binary:
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
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if child.returncode != 0:
        raise RuntimeError(f"compiling the kernels failed:\n{child.stderr[-2000:]}")
    return [Binary(**record) for record in json.loads(child.stdout)]


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
    try:
        return _compile(launch, architecture)
    except Exception as error:  # of Triton's compiler or of its tools, which raise many kinds
        words = f"{type(error).__name__}: {error}".strip()
        name, variant = launch.kernel.__name__, _variant(launch)
        return Binary(name, variant, architecture, 0, 0, 0, 0, words)


def _compile(launch: Launch, architecture: int) -> Binary:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = dict(launch.signature) | {name: "constexpr" for name, _ in launch.constants}
    # Torch's allocations are aligned, which the launcher tells the compiler too.
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, (_, type_name) in enumerate(launch.signature)
        if type_name.startswith("*")
    }
    source = ASTSource(launch.kernel, types, dict(launch.constants), aligned)
    options = {"enable_fp_fusion": True, **dict(launch.options)}
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    registers, spills = _resources(compiled.asm["cubin"])
    return Binary(
        launch.kernel.__name__,
        _variant(launch),
        architecture,
        registers,
        spills,
        compiled.metadata.shared,
        compiled.metadata.num_warps,
    )


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
    used = dict(_numbers(report))
    return used["REG"], used["STACK"] + used["LOCAL"]


def _numbers(report: str) -> Iterator[tuple[str, int]]:
    for word in report.split():
        name, _, value = word.partition(":")
        if value.isdigit():
            yield name, int(value)


if __name__ == "__main__":
    sys.exit(main())
