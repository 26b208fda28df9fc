"""Policies on the Hugging Face Hub: one model repository each, of the three files of a folder.

The token is the one of ``hf auth login`` or HF_TOKEN, or one that is handed in; it is given to
the Hub's own client, kept nowhere and shown nowhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sol_core.errors import DownloadError, PolicyError
from sol_core.files.places import first_line
from sol_core.policy.info import CARD_FILE, MAX_BYTES

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

AnswerT = TypeVar("AnswerT")

logger = logging.getLogger(__name__)


def push_policy(
    folder: Path,
    repository: str,
    *,
    private: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Put a policy's files into the repository "owner/name"; returns its address."""

    def push(api: HfApi) -> str:
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(MAX_BYTES),
            commit_message="Policy of SOL Explorer",
        )
        return str(made)

    return _ask(repository, push, token, endpoint)


def pull_policy(
    repository: str,
    target: Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> None:
    """Fetch a policy's files from the repository "owner/name" into the existing folder ``target``.

    Sizes are looked at before anything is fetched; nothing else of the repository is.
    """

    def pull(api: HfApi) -> None:
        about = api.model_info(repository, revision=revision, files_metadata=True)
        for name in _checked_names(repository, about):
            # The commit that was looked at, even if the branch moves on meanwhile.
            api.hf_hub_download(repository, name, revision=about.sha, local_dir=target)

    _ask(repository, pull, token, endpoint)


def fetch_policy(
    repository: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """The folder of a policy in the Hub's own cache, fetched first where it must be.

    Without a connection, what the cache has is used and the log says so. Arguments are those of
    ``huggingface_hub.snapshot_download``.
    """

    def cached(api: HfApi) -> Path:
        return Path(
            api.snapshot_download(
                repository, revision=revision, cache_dir=cache_dir, local_files_only=True
            )
        )

    def fetch(api: HfApi) -> Path:
        from huggingface_hub.errors import HfHubHTTPError

        if local_files_only:
            return cached(api)
        try:
            about = api.model_info(repository, revision=revision, files_metadata=True)
        except HfHubHTTPError:
            raise  # the Hub answered: no such repository, or not for this token
        except _refusals() as error:
            try:
                folder = cached(api)
            except OSError:
                raise error from None
            logger.warning("the Hub is not reached; %s is taken from %s", repository, folder)
            return folder
        path = ""
        for name in _checked_names(repository, about):
            path = api.hf_hub_download(
                repository,
                name,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
            )
        return Path(path).parent

    return _ask(repository, fetch, token, None)


def _checked_names(repository: str, about: ModelInfo) -> list[str]:
    """A policy's files in a repository."""
    sizes = {file.rfilename: file.size for file in about.siblings or []}
    for name, limit in MAX_BYTES.items():
        if name not in sizes and name != CARD_FILE:
            raise PolicyError(f"{repository} on the Hub holds no {name}: it is no policy")
        if (sizes.get(name) or 0) > limit:
            raise PolicyError(f"{repository} on the Hub: {name} is too large for a policy")
    return [name for name in MAX_BYTES if name in sizes]


def _refusals() -> tuple[type[Exception], ...]:
    """Return the errors that the Hub's client raises when the Hub refuses or is not reached."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The client changes its HTTP library between releases; its own error inherits that one's root.
    roots = [kind for kind in HfHubHTTPError.__bases__ if issubclass(kind, Exception)]
    return (*roots, HFValidationError, OSError)


def _ask(
    repository: str,
    ask: Callable[[Any], AnswerT],
    token: str | bool | None,
    endpoint: str | None,
) -> AnswerT:
    from huggingface_hub import HfApi

    if repository.count("/") != 1:
        raise DownloadError(f"a Hub repository is named OWNER/NAME, got {repository[:80]!r}")
    try:
        return ask(HfApi(endpoint=endpoint, token=token))
    except _refusals() as error:
        reason = first_line(error)
        if isinstance(token, str) and token:
            reason = reason.replace(token, "…")
        raise DownloadError(
            f"the Hub did not give or take {repository} ({type(error).__name__}: {reason}). Check "
            "the name and the network; writing and private repositories need a token "
            "(hf auth login, or HF_TOKEN)"
        ) from error
