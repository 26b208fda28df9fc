"""Python calls of the Policies page. Each handler takes the services and one JSON object."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from app.host.errors import AppError
from app.pages.shared.uploads import UploadKind
from app.policies.library import ModelInUse, StoredPolicy
from app.policies.views import PolicyUses, headlines_of, policy_row, policy_verdict, uses_of
from app.web.calls import Page, Request, RequestError, by_name, field, owner_of
from app.web.services import Services
from sol_core.errors import PolicyError
from sol_core.policy.files.archive import MAX_ZIP_BYTES
from sol_core.policy.info import CARD_FILE

MAX_CARD_SHOWN = 64_000  # characters
MAX_DOWNLOAD_BYTES = 64_000_000
_SHARED = (
    "This is a shared server: its policies belong to its owner. Run SOL Explorer on your own "
    "machine (python launch.py) to change or add policies."
)


def all_policies(services: Services, request: Request) -> dict[str, Any]:
    """The library, what in it is damaged, and why it cannot be changed here, where it cannot."""
    policies, damaged = services.policies.list_all()
    return {
        "policies": [policy_row(policy) for policy in policies],
        "damaged": damaged,
        "refusal": _SHARED if services.is_shared else None,
    }


def policy_details(services: Services, request: Request) -> dict[str, Any]:
    """Collect all that is shown of one policy; of jobs and runs on a shared server one's own."""
    policy, uses = _policy(services, request)
    evaluations = headlines_of(uses.evaluations, policy)
    return policy_row(policy) | {
        "card": _card(policy.folder),
        "training_job": None if uses.training is None else uses.training.id,
        "evaluations": evaluations,
        "verdict": policy_verdict(policy, evaluations),
        "uses": uses.sentence(),
    }


def rename_policy(services: Services, request: Request) -> dict[str, Any]:
    """Give a policy another name; what names the former one still finds it."""
    _check_own(services)
    name, new_name = field(request, "name", str), field(request, "new_name", str).strip()
    services.policies.rename(name, new_name)
    return {"name": new_name}


def delete_policy(services: Services, request: Request) -> dict[str, Any]:
    _check_own(services)
    try:
        waiting = _policy(services, request)[1].waiting
    except PolicyError:  # one that cannot be read: no job can use it either
        waiting = []
    if waiting:
        titles = ", ".join(job.title[:40] for job in waiting[:3])
        raise RequestError(
            f"Jobs that have not ended need this policy: {titles}. Cancel them first."
        )
    services.policies.delete(field(request, "name", str))
    return {}


def export_policy(services: Services, request: Request) -> dict[str, Any]:
    """The policy as a zip, in base64: anyone who may use a policy here may take it."""
    name = field(request, "name", str)
    services.policies.resolve_name(name)
    data = services.policies.zip_bytes(name, MAX_DOWNLOAD_BYTES)
    return {"name": f"{name}.zip", "data": base64.b64encode(data).decode("ascii")}


def _policy(services: Services, request: Request) -> tuple[StoredPolicy, PolicyUses]:
    policy = services.policies.get(field(request, "name", str))
    owner = owner_of(request) if services.is_shared else None
    return policy, uses_of(services.store, services.policies, policy, owner)


def _check_own(services: Services) -> None:
    if services.is_shared:
        raise AppError(_SHARED)


def _card(folder: Path) -> str:
    try:
        text = (folder / CARD_FILE).read_text("utf-8", errors="replace")
    except OSError:
        return ""
    return text if len(text) <= MAX_CARD_SHOWN else text[:MAX_CARD_SHOWN] + "\n…"


def _take_upload(services: Services, owner: str, name: str, part: Path) -> dict[str, Any]:
    model = services.loader.loaded()
    if model is None:
        raise AppError("The model is not loaded yet. Try again when it is ready.")
    wanted = Path(name).name.removesuffix(".zip")
    in_use = ModelInUse(model.name, model.fingerprint)
    return {"name": services.policies.take_in(part, wanted, in_use)}


POLICY_UPLOAD = UploadKind(
    "A policy's zip",
    "A policy's zip has config.json, model.safetensors and README.md.",
    lambda services: MAX_ZIP_BYTES,
    lambda services, owner, name, size: _check_own(services),
    _take_upload,
)
HANDLERS = by_name(all_policies, policy_details, rename_policy, delete_policy, export_policy)
PAGE = Page("policies", "Policies", HANDLERS)
