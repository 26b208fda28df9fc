"""Doors of the page: the paths and methods that it uses, out of the hundred routes of Gradio.

Gradio's others write files, keep what a stranger sends, or log a traceback each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container
from functools import cache

from app.pages.shared.uploads import UPLOADS_PLACE
from app.web.assets import plotly_path
from app.web.modules import MODULES_PLACE

_READ, _ASK = ("GET", "HEAD"), ("POST",)
# Gradio keeps something for every session that it hears of, under the name that it was sent.
_SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)


@cache
def _doors() -> tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]:
    """Methods, and paths that they open."""
    doors = (
        (_READ, "/"),
        (_READ, "/favicon.ico"),
        (_READ, "/theme.css"),
        (_READ, "/assets/.+"),  # Gradio's scripts, styles and fonts
        (_READ, "/static/(?:fonts|img|js)/.+"),
        (_READ, f"/{MODULES_PLACE}/.+"),
        (_READ, re.escape(f"/gradio_api/file={plotly_path().as_posix()}")),
        (("GET",), "/gradio_api/startup-events"),  # Gradio's own launch asks for it
        (_ASK, "/gradio_api/component_server/?"),  # calls of the page, see ``calls.py``
        (_ASK, f"/{UPLOADS_PLACE}"),
    )
    return tuple((methods, re.compile(path)) for methods, path in doors)


def is_door(method: str, path: str) -> bool:
    """Return whether the page asks for this path by this method."""
    return any(method in methods and form.fullmatch(path) for methods, form in _doors())


def is_call(body: bytes, components: Container[int]) -> bool:
    """Return whether a body is a JSON object with a component of the page and a session's name."""
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(call, dict):
        return False
    session, component = call.get("session_hash"), call.get("component_id")
    is_named = isinstance(session, str) and _SESSION.fullmatch(session) is not None
    return is_named and isinstance(component, int) and component in components
