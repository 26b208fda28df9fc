"""Finds policies by "default", stored name, folder or Hub id; moves them to and from the Hub.

A renamed policy is also found by its former name. Hub tokens go to the Hub's own client; they are
neither stored nor shown. Imports no torch.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sol_core.actions import DEFAULT_GRID, GRIDS, ActionGrid
from sol_core.config import DEFAULT_POLICY
from sol_core.errors import DownloadError, PolicyError
from sol_core.files.paths import SHIPPED_POLICIES, SHIPPED_POLICY, default_data_dir, first_line
from sol_core.policy.files.archive import read_notes
from sol_core.policy.info import CARD_FILE, CONFIG_FILE, MAX_BYTES, PolicyInfo, read_policy_info

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

logger = logging.getLogger(__name__)
NAME_LENGTH = 60
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9 ._-]{{0,{NAME_LENGTH - 1}}}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
HUB_OPTIONS = ("force_download", "token", "cache_dir", "local_files_only", "revision")
_LISTED = 12  # most names listed in a message
_FILES: dict[str, Any] = {"allow_patterns": list(MAX_BYTES)}


def shipped_policy_for(folder: Path, grid: ActionGrid | None) -> Path:
    """Return the shipped policy for the grid if ``folder`` is a shipped one, else ``folder``."""
    if folder != SHIPPED_POLICY:
        return folder
    shipped = SHIPPED_POLICIES.items()
    return next((path for name, path in shipped if GRIDS[name] == grid), folder)


def resolved_grid(chosen: ActionGrid | None, methods: Iterable[object]) -> ActionGrid:
    """Return the chosen grid, else the first policy's, else the default."""
    if chosen is not None:
        return chosen
    for method in methods:  # policy folders, policies and other schedules
        if isinstance(method, Path):
            return read_policy_info(method).grid
        own = getattr(method, "info", None)
        if isinstance(own, PolicyInfo):  # not a caller's own schedule
            return own.grid
    return GRIDS[DEFAULT_GRID]


def locate_policy(name: str | Path, data_dir: Path | None = None) -> Path:
    """Return the folder of a policy, downloaded from the Hub if necessary."""
    root = data_dir or default_data_dir()
    policies, text = root / "policies", str(name)
    if not text.strip():
        raise PolicyError(f"the policy's name is empty: {_choices(policies)}")
    if text == DEFAULT_POLICY:
        return SHIPPED_POLICY
    if folder := find_stored(policies, text):
        return folder
    try:
        folder = Path(name).expanduser()
    except RuntimeError:  # "~nobody/x": no such user
        folder = Path(name)
    if holds_policy(folder):
        return folder
    if folder.is_dir():
        raise PolicyError(f"the folder {name} holds no policy: it has no {CONFIG_FILE}")
    if is_hub_id(text):
        return fetch_policy(text, cache_dir=root / "models" / "hub")
    raise PolicyError(f"no policy {text[:200]!r}: {_choices(policies)}")


def is_hub_id(text: str) -> bool:
    """Return whether the text has the form "owner/name"."""
    return _HUB_ID.fullmatch(text) is not None


def is_policy_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def holds_policy(folder: Path) -> bool:
    """Return whether the folder looks like a policy's, without reading it."""
    return (folder / CONFIG_FILE).is_file()


def find_stored(policies: Path, name: str) -> Path | None:
    """Return the folder of a stored policy by its name, else by a former name."""
    if not is_policy_name(name):
        return None
    if holds_policy(policies / name):
        return policies / name
    return next(
        (
            folder
            for folder in stored_folders(policies)
            if any(former.name == name for former in read_notes(folder).former_names)
        ),
        None,
    )


def stored_folders(policies: Path) -> list[Path]:
    """Return the folders of all stored policies, newest first."""
    stored = []
    for folder in policies.iterdir() if policies.is_dir() else ():
        is_named = is_policy_name(folder.name) and folder.name != DEFAULT_POLICY
        if is_named and holds_policy(folder):
            with contextlib.suppress(OSError):  # deleted meanwhile
                stored.append((-(folder / CONFIG_FILE).stat().st_mtime, folder.name, folder))
    return [folder for *_, folder in sorted(stored)]


def _choices(policies: Path) -> str:
    names = [folder.name for folder in stored_folders(policies)]
    listed = ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else "")
    stored = f"a stored one ({listed}), " if names else ""
    return f"give {DEFAULT_POLICY!r}, {stored}a policy folder, or a Hugging Face Hub id owner/name"


def push_policy(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload a policy's files to the repository "owner/name"; return its address."""
    with hub_client(repository, None) as api:
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Policy of SOL Explorer",
            **_FILES,
        )
    return str(made)


def pull_policy(repository: str, target: Path) -> None:
    """Copy a Hub repository's policy into ``target``. Raises: DownloadError, PolicyError."""
    with hub_client(repository, None) as api:
        about = _checked(api, repository, None)
        # The checked commit, even if the branch moves meanwhile.
        api.snapshot_download(repository, revision=about.sha, local_dir=target, **_FILES)


def fetch_policy(
    repository: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """Return a policy's folder in the Hub's cache, downloaded if necessary."""
    from huggingface_hub.errors import HfHubHTTPError

    from_cache = local_files_only
    with hub_client(repository, token) as api:
        if not from_cache:
            try:
                _checked(api, repository, revision)
            except HfHubHTTPError:
                raise  # the repository is missing, or closed to this token
            except _refusals():
                logger.warning("the Hub is not reached; %s is looked for in the cache", repository)
                from_cache = True
        folder = api.snapshot_download(
            repository,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=from_cache,
            **_FILES,
        )
    return Path(folder)


def _checked(api: HfApi, repository: str, revision: str | None) -> ModelInfo:
    """Return a repository's listing. Raises: PolicyError if a file is missing or too large."""
    about = api.model_info(repository, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size for file in about.siblings or []}
    for name, limit in MAX_BYTES.items():
        if name not in sizes and name != CARD_FILE:
            raise PolicyError(f"{repository} on the Hub holds no {name}: it is no policy")
        if (sizes.get(name) or 0) > limit:
            raise PolicyError(f"{repository} on the Hub: {name} is too large for a policy")
    return about


def _refusals() -> tuple[type[Exception], ...]:
    """Return the errors that the Hub's client raises when the Hub refuses or is not reached."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The client's HTTP library differs by release; its own error inherits that library's root.
    roots = [kind for kind in HfHubHTTPError.__bases__ if issubclass(kind, Exception)]
    return (*roots, HFValidationError, OSError)


@contextlib.contextmanager
def hub_client(repository: str, token: str | bool | None) -> Iterator[HfApi]:
    """Yield a Hub client; turn its errors in the block into DownloadError."""
    from huggingface_hub import HfApi

    if repository.count("/") != 1:
        raise DownloadError(f"a Hub repository is named OWNER/NAME, got {repository[:80]!r}")
    try:
        yield HfApi(token=token)
    except _refusals() as error:
        reason = first_line(error)
        if isinstance(token, str) and token:
            reason = reason.replace(token, "…")
        raise DownloadError(
            f"the Hub did not give or take {repository} ({type(error).__name__}: {reason}). Check "
            "the name and the network; writing and private repositories need a token "
            "(hf auth login, or HF_TOKEN)"
        ) from error
