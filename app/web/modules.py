"""JavaScript modules of the pages: their graph, and their addresses on this server.

They are served as they are. One hash over all of them is part of every address, so that a browser
keeps them for good and an update is never half cached.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from app.host.environment import tree_digest

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

JS = Path(__file__).with_name("js")
# The only form of import in these files; a test holds them to it.
_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[^"]+)";\n', re.MULTILINE)
# Under Gradio's own prefix, which proxies pass on.
MODULES_PLACE = "gradio_api/sol-modules"
_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable"}
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) )", re.MULTILINE)
_TOP_LEVEL = re.compile(r"^(?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)


@cache
def _hash() -> str:
    return tree_digest(JS, "*.js")


def module_url(name: str) -> str:
    """Return the address of a module, ``"explore/explore.js"``, relative to the page's."""
    return f"{MODULES_PLACE}/{_hash()}/{name}"


def module_route() -> BaseRoute:
    """Return the route that serves all modules, for ``launch(app_kwargs={"routes": […]})``."""
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    sources = {path.relative_to(JS).as_posix(): path.read_bytes() for path in JS.rglob("*.js")}

    async def module(request: Request) -> Response:
        source = sources.get(request.path_params["name"])
        if source is None:
            raise HTTPException(404)
        return Response(source, headers=_HEADERS, media_type="text/javascript")

    return Route(f"/{module_url('{name:path}')}", module)


def dependencies(name: str) -> list[str]:
    """Return the modules that a module imports itself, in the order it names them."""
    folder = (JS / name).parent
    paths = [(folder / imported).resolve() for imported in _IMPORT.findall(_read(name))]
    return [path.relative_to(JS.resolve()).as_posix() for path in paths]


def in_order(*entries: str) -> list[str]:
    """Return the entries and all that they import, every module after those it imports."""
    ordered: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in ordered:
            for needed in dependencies(name):
                visit(needed)
            ordered[name] = None

    for entry in entries:
        visit(entry)
    return list(ordered)


@cache
def _read(name: str) -> str:
    return (JS / name).read_text(encoding="utf-8")


def bundle(entry: str) -> str:
    """All modules of ``entry`` as one script: a browser loads no module from ``file://``."""
    owners: dict[str, str] = {}
    sources = []
    for module in in_order(entry):
        source = _EXPORT.sub("", _IMPORT.sub("", _read(module)))
        for name in _TOP_LEVEL.findall(source):
            if owners.setdefault(name, module) != module:
                raise ValueError(
                    f"{owners[name]} and {module} both have {name} at their top level; both are "
                    f"part of {entry}, which is exported as one script. Rename one of them."
                )
        sources.append(source)
    return "\n".join(sources)
