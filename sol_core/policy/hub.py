"""Policies on the Hugging Face Hub: one model repository each, of the three files of a folder.

The token is the one of ``hf auth login`` or HF_TOKEN, or one that is handed in; it is given to
the Hub's own client, kept nowhere and shown nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sol_core.errors import DownloadError, PolicyError
from sol_core.policy.info import CARD_FILE, MAX_BYTES

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["pull_policy", "push_policy"]

AnswerT = TypeVar("AnswerT")


def push_policy(
    folder: Path,
    repository: str,
    *,
    private: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Put a policy's files into the repository "owner/name", made if need be; returns its address.

    Raises: DownloadError when the Hub refuses or is not reached.
    """

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
    Raises: DownloadError; PolicyError when it holds no policy.
    """

    def pull(api: HfApi) -> None:
        about = api.model_info(repository, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size for file in about.siblings or []}
        for name, limit in MAX_BYTES.items():
            if name not in sizes:
                if name == CARD_FILE:
                    continue
                raise PolicyError(f"{repository} on the Hub holds no {name}: it is no policy")
            if (sizes[name] or 0) > limit:
                raise PolicyError(f"{repository} on the Hub: {name} is too large for a policy")
            # The commit that was looked at, even if the branch moves on meanwhile.
            api.hf_hub_download(repository, name, revision=about.sha, local_dir=target)

    _ask(repository, pull, token, endpoint)


def _ask(
    repository: str, ask: Callable[[Any], AnswerT], token: str | None, endpoint: str | None
) -> AnswerT:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The client changes its HTTP library between releases; its own error inherits that one's root.
    refusals: tuple[Any, ...] = (*HfHubHTTPError.__bases__, HFValidationError, OSError)

    if repository.count("/") != 1:
        raise DownloadError(f"a Hub repository is named OWNER/NAME, got {repository[:80]!r}")
    try:
        return ask(HfApi(endpoint=endpoint, token=token))
    except refusals as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        if token:
            reason = reason.replace(token, "…")
        raise DownloadError(
            f"the Hub did not give or take {repository} ({type(error).__name__}: {reason}). Check "
            "the name and the network; writing and private repositories need a token "
            "(hf auth login, or HF_TOKEN)"
        ) from error
