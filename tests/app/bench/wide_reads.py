"""A program that compiles the kernels that read weights and caches, and counts how they read.

Prints, by kernel and architecture, the copies that run ahead (``cp.async``) and loads of 16 bytes,
and the loads of single 16-bit numbers in its PTX. It must run without TRITON_INTERPRET.
"""

import json
import re
import sys

from app.bench.ahead_of_time import compiled, shipped_launches

KERNELS = ("attend_pages", "multiply_rows", "weigh_pages")


def main():
    """Args: architectures."""
    chosen = {}
    for launch in shipped_launches():
        name, types = launch.kernel.__name__, {kind for _, kind in launch.signature}
        if name in KERNELS and "*bf16" in types:
            gated = dict(launch.constants).get("GATED")
            name += {True: " gate and up", False: " down", None: ""}[gated]
            chosen.setdefault(name, launch)
    counts = {}
    for name, launch in chosen.items():
        for architecture in sys.argv[1:]:
            text = compiled(launch, int(architecture)).asm["ptx"]
            wide = re.findall(r"cp\.async\.c[ag]\.shared\.global [^;]*, 0x10", text)
            wide += re.findall(r"ld\.global(?:\.\w+)*\.v4\.b32", text)
            narrow = re.findall(r"ld\.global(?:\.\w+)*\.b16\b", text)
            counts[f"{name} {architecture}"] = len(wide), len(narrow)
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main()
