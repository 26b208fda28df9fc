"""Environment of the libraries: no telemetry, shared cores, every cache in the data directory.

They read it at import: call ``prepare`` before. What the user has set is left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from pathlib import Path

from sol_core import limit_spinning

SWITCHES = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Uvicorn believes the X-Forwarded-For of these; of its own accord, of every local program.
    "FORWARDED_ALLOW_IPS": "",
}
CACHES = {
    "HF_HOME": "cache/huggingface",
    "HF_DATASETS_CACHE": "corpora/datasets",
    "GRADIO_TEMP_DIR": "cache/gradio",
    "MPLCONFIGDIR": "cache/matplotlib",
    "TORCH_HOME": "cache/torch",
    "TORCHINDUCTOR_CACHE_DIR": "cache/torchinductor",
    "TRITON_CACHE_DIR": "cache/triton",
}
KERNELS = "cache/numba"
LOOPBACK = ("localhost", "127.0.0.1")
SOURCES = Path(__file__).resolve().parents[2] / "kernels"
KEPT_DAYS = 14  # a process of another version may still be compiling into its folder


def prepare(data_dir: Path) -> None:
    """Set the variables of this process and its children; creates no folder."""
    _keep_hub_login()
    keep_local()
    limit_spinning()
    for name, folder in CACHES.items():
        os.environ.setdefault(name, str(data_dir / folder))
    if "NUMBA_CACHE_DIR" not in os.environ:
        kernels = kernel_cache_folder(data_dir / KERNELS)
        os.environ["NUMBA_CACHE_DIR"] = str(kernels)
        remove_unused_caches(kernels)


def keep_local() -> None:
    """No telemetry, and no proxy between this machine and itself."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host.strip() for host in os.environ.get(name, "").split(",") if host.strip()]
        os.environ[name] = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])


def _keep_hub_login() -> None:
    """Moving HF_HOME must not log the user out: the token is still read from its usual folder."""
    if "HF_HOME" in os.environ:
        return
    cache = os.environ.get("XDG_CACHE_HOME", "").strip() or "~/.cache"
    home = Path(cache).expanduser() / "huggingface"
    os.environ.setdefault("HF_TOKEN_PATH", str(home / "token"))
    os.environ.setdefault("HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))


def kernel_cache_folder(parent: Path, sources: Path = SOURCES) -> Path:
    """Named after all kernels: Numba misses a change in a file that it takes helpers from."""
    return parent / tree_digest(sources, "*.py")


def tree_digest(folder: Path, pattern: str) -> str:
    """Hash of the names and contents of a folder's files, at any depth."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob(pattern)):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def remove_unused_caches(folder: Path) -> None:
    """Delete folders beside this one that no start used for two weeks; mark this one as used."""
    oldest = time.time() - KEPT_DAYS * 86_400
    with contextlib.suppress(OSError):  # nothing there yet, or another start is doing the same
        for other in folder.parent.iterdir():
            if other != folder and other.is_dir() and other.stat().st_mtime < oldest:
                shutil.rmtree(other, ignore_errors=True)
        if folder.is_dir():
            folder.touch()
