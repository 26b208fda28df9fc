"""Finds a policy by its usual names: "default", a stored name, a folder, a Hub id.

Stored policies are the folders in ``<data dir>/policies``. A former name of a renamed policy still
finds it, as long as no other policy has taken that name. Read without torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from sol_core.actions import GRIDS, SHARE_GRID, ActionGrid, by_need
from sol_core.errors import PolicyError
from sol_core.files.places import SHIPPED_POLICIES, SHIPPED_POLICY, default_data_dir
from sol_core.policy.files.archive import read_notes
from sol_core.policy.info import CONFIG_FILE, read_policy_info

DEFAULT_POLICY = "default"  # the one that ships with the program
NAME_LENGTH = 60
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9 ._-]{{0,{NAME_LENGTH - 1}}}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LISTED = 12  # names in a message


def shipped_for(folder: Path, grid: ActionGrid | None) -> Path:
    """The shipped policy for a grid where ``folder`` is the shipped one's, else ``folder``."""
    if folder != SHIPPED_POLICY:
        return folder
    shipped = SHIPPED_POLICIES.items()
    return next((path for name, path in shipped if GRIDS[name] == grid), folder)


def grid_in_use(folder: Path, *, by_share: bool) -> ActionGrid:
    """The grid that a policy chooses from: its own, for shares of the bytes with pages by need."""
    if by_share and folder == SHIPPED_POLICY:
        return GRIDS[SHARE_GRID]
    grid = read_policy_info(folder).grid
    return by_need(grid) if by_share else grid


def locate_policy(name: str | Path, data_dir: Path | None = None) -> Path:
    """The folder of a policy, fetched from the Hub where it must be."""
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
        from sol_core.policy.files.hub import fetch_policy

        return fetch_policy(text, cache_dir=root / "models" / "hub")
    raise PolicyError(f"no policy {text[:200]!r}: {_choices(policies)}")


def is_hub_id(text: str) -> bool:
    """Return whether this may be the Hub's "owner/name"."""
    return _HUB_ID.fullmatch(text) is not None


def is_policy_name(text: str) -> bool:
    """Return whether a folder in the library may bear this name."""
    return _NAME.fullmatch(text) is not None


def holds_policy(folder: Path) -> bool:
    """Return whether the folder looks like a policy's; nothing is read."""
    return (folder / CONFIG_FILE).is_file()


def find_stored(policies: Path, name: str) -> Path | None:
    """The folder of a stored policy, by its name or else by a former one."""
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
    """The folders of all stored policies, newest first."""
    stored = policies.iterdir() if policies.is_dir() else ()
    usable = [path for path in stored if is_policy_name(path.name) and holds_policy(path)]
    usable = [path for path in usable if path.name != DEFAULT_POLICY]
    return sorted(usable, key=lambda path: (-_made_at(path), path.name))


def _made_at(folder: Path) -> float:
    try:
        return (folder / CONFIG_FILE).stat().st_mtime
    except OSError:  # deleted at this moment
        return 0.0


def _choices(policies: Path) -> str:
    names = [folder.name for folder in stored_folders(policies)]
    listed = ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else "")
    stored = f"a stored one ({listed}), " if names else ""
    return f"give {DEFAULT_POLICY!r}, {stored}a policy folder, or a Hugging Face Hub id owner/name"
