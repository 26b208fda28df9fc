"""Libraries of the operating system that torch needs and no package brings."""

from __future__ import annotations

import ctypes
import platform

_NEEDED = ("msvcp140.dll", "vcruntime140_threads.dll")  # of Microsoft's C++ runtime
_REDISTRIBUTABLE = "https://aka.ms/vs/17/release/vc_redist.{}.exe"


def missing_system_library() -> str | None:
    """One sentence: the library that Windows lacks and what to do; None where torch can be loaded.

    Without it the import of torch ends with "shm.dll or one of its dependencies".
    """
    load = getattr(ctypes, "WinDLL", None)
    if load is None:  # not Windows
        return None
    for name in _NEEDED:
        try:
            load(name)
        except OSError:
            kind = "arm64" if platform.machine().lower() == "arm64" else "x64"
            return (
                f"{name} is missing, a part of Microsoft's Visual C++ runtime that PyTorch needs: "
                f"install {_REDISTRIBUTABLE.format(kind)} and start again"
            )
    return None
