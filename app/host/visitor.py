"""Identity of a visitor as far as the server knows it: network address, ticket for ZeroGPU.

Both are of the call that is being answered; outside of one there is neither.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from app.host.hosting import is_space, is_zero_gpu

# Hugging Face hands the ticket to the page, not to the server: Gradio's own events send it on as
# a header, the page's calls in this field of their object (``dom.js``).
TICKET_HEADER = "x-ip-token"
HEADERS_FIELD = "zero_gpu_headers"
MAX_TICKET = 4096


def address() -> str | None:
    """The visitor's network address; None outside of a call."""
    return address_of(_request())


def address_of(request: Any) -> str | None:
    """The address, on a Space as its proxy says, where a visitor may send anything."""
    if request is None:
        return None
    forwarded = request.headers.get("x-forwarded-for", "") if is_space() else ""
    client = getattr(request, "client", None)
    return forwarded.partition(",")[0].strip() or getattr(client, "host", None)


def take_ticket(call: dict[str, Any]) -> None:
    """Take the ticket out of a page's call, and on ZeroGPU put it where ``spaces`` looks."""
    headers = call.pop(HEADERS_FIELD, None)
    ticket = headers.get(TICKET_HEADER) if isinstance(headers, dict) else None
    if not is_zero_gpu() or not isinstance(ticket, str) or len(ticket) > MAX_TICKET:
        return
    from gradio.context import LocalContext
    from starlette.datastructures import Headers

    request = _request()
    known = {} if request is None else dict(request.headers)
    forged = SimpleNamespace(
        headers=Headers(known | {TICKET_HEADER: ticket}), client=getattr(request, "client", None)
    )
    LocalContext.request.set(forged)  # type: ignore[arg-type]  # spaces reads its headers only


def _request() -> Any:
    """Gradio's request; it has been imported where there is one."""
    context = sys.modules.get("gradio.context")
    return None if context is None else context.LocalContext.request.get(None)
