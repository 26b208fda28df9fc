"""What the Explore page asks of Python. Each handler takes the services and one JSON object."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.explore.settings import checked_prompt, config_from_settings, settings_from_config
from app.page_calls import Handler, Request, field, owner_of
from app.services import Services
from sol_core.actions import Action
from sol_core.cost_estimates import estimated_steps, shape_of

__all__ = ["HANDLERS"]


def home(services: Services, request: Request) -> dict[str, Any]:
    """State of the model, and this visitor's unfinished run, which a reload takes up again.

    Notices of the start (a database kept aside, say) are for whoever runs the server.
    """
    return {
        "model": asdict(services.loader.status()),
        "active": services.runs.active(owner_of(request)),
        "notices": [] if services.is_shared else list(services.store.notices),
    }


def start_run(services: Services, request: Request) -> dict[str, Any]:
    """Check the settings, put the run in line, answer with its id."""
    owner, prompt = owner_of(request), checked_prompt(field(request, "prompt", str))
    config = config_from_settings(field(request, "settings", dict))
    return {"run_id": services.runs.start(owner, prompt, config)}


def poll_run(services: Services, request: Request) -> dict[str, Any]:
    """Rows from the cursor on; the first answer also says what the run is."""
    cursor = max(0, field(request, "cursor", int))
    view = services.runs.poll(owner_of(request), field(request, "run_id", str), cursor)
    if view["status"] == "loading":
        view["model"] = asdict(services.loader.status())
    if run := view.get("run"):
        run["settings"] = settings_from_config(run["config"])
    return view


def stop_run(services: Services, request: Request) -> dict[str, Any]:
    """Ask the run to end after its current token."""
    services.runs.stop(owner_of(request), field(request, "run_id", str))
    return {}


def look_at_token(services: Services, request: Request) -> dict[str, Any]:
    """One token of an ended run under every level of every axis, and what it did to the next."""
    run_id, index = field(request, "run_id", str), field(request, "index", int)
    return services.lens.look(owner_of(request), run_id, index)


def look_at_plane(services: Services, request: Request) -> dict[str, Any]:
    """The joint grid of attention and channels of one token, at one bit width."""
    run_id, index = field(request, "run_id", str), field(request, "index", int)
    bits = field(request, "bits", int)
    return services.lens.plane(owner_of(request), run_id, index, bits)


def list_policies(services: Services, request: Request) -> dict[str, Any]:
    """Names of the stored policies, the shipped one first."""
    return {"policies": services.policies.names()}


def estimate_costs(services: Services, request: Request) -> dict[str, Any]:
    """Estimated ms per token on GPUs: the loaded model and others, dense and at a spend.

    No rows while no model is loaded.
    """
    spend = Action(_share(request, "keep"), _share(request, "channels"))
    context, page_size = (field(request, name, int) for name in ("context", "page_size"))
    model = services.loader.loaded()
    if model is None:
        return {"rows": []}
    shape = shape_of(model.name, model.spec)
    return {"rows": estimated_steps(shape, model.context_length, spend, context, page_size)}


def retry_model(services: Services, request: Request) -> dict[str, Any]:
    """Load the model again after a failure."""
    services.loader.retry()
    return home(services, request)


HANDLERS: dict[str, Handler] = {
    handler.__name__: handler
    for handler in (
        home,
        start_run,
        poll_run,
        stop_run,
        look_at_token,
        look_at_plane,
        list_policies,
        estimate_costs,
        retry_model,
    )
}


def _share(request: Request, name: str) -> float:
    # JSON has one kind of number: a share of 1 arrives as an int.
    return 1.0 if request.get(name) == 1 else field(request, name, float)
