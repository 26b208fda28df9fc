"""Assets of the page: its head, and the JavaScript modules, their graph and their addresses.

Modules are served as they are. One hash over all of them is part of every address, so that a
browser keeps them for good and an update is never half cached.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.host.environment import tree_digest
from app.web.theme import DIFFERENCE_BINS, NUM_BINS, colour_css
from sol_core.actions import AXES, DEFAULT_GRID, GRIDS
from sol_core.config import SCHEDULE_LABELS
from sol_core.reporting.verdict import BROKEN_KL, BROKEN_OTHERS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

JS = Path(__file__).with_name("js")
# The only form of import in these files; a test holds them to it.
_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[^"]+)";\n', re.MULTILINE)
# Under Gradio's own prefix, which proxies pass on.
MODULES_PLACE = "gradio_api/sol-modules"
_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable"}
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) )", re.MULTILINE)
_TOP_LEVEL = re.compile(r"^(?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)
_CSS = Path(__file__).with_name("css")
_STYLE_SHEETS = (
    *("base", "controls", "stage", "runs/machine", "tokens"),
    *("runs/reading", "lens", "compare", "inspect", "history", "lab", "tables"),
    "learn/lessons",
)
_AXIS_FIELDS = (
    *("field", "short", "key", "name", "noun", "term", "label", "hint", "unit", "scale"),
)


def style_sheet(*names: str) -> str:
    return "\n".join((_CSS / f"{name}.css").read_text(encoding="utf-8") for name in names)


def site_data(constants: dict[str, Any]) -> str:
    """Return the element that ``js/shared/dom.js`` reads: what does not depend on the page."""
    shared = {
        "numBins": NUM_BINS,
        "differenceBins": DIFFERENCE_BINS,
        "axes": page_axes(),
        "schedules": SCHEDULE_LABELS,
        "broken": {"kl": BROKEN_KL, "others": BROKEN_OTHERS},
    }
    return _data_element("sol-site", shared | constants)


def page_head(constants: dict[str, Any]) -> str:
    """Style sheets, constants and glossary of all pages, for ``launch(head=…)``.

    The modules of the first tab are announced, so that they come while Gradio's own load.
    ``launch(css=…)`` rewrites selectors, and does not get ``:is()`` and ``@media`` right.
    """
    first = in_order("header.js", "explore/explore.js")
    plotly = f"gradio_api/file={plotly_path().as_posix()}"
    parts = [
        f"<style>\n{colour_css()}\n{style_sheet(*_STYLE_SHEETS)}\n</style>",
        site_data(constants | {"plotly": plotly}),
        _data_element("sol-terms", terms()),
        *(f'<link rel="modulepreload" href="{module_url(name)}">' for name in first),
    ]
    return "\n".join(parts)


@cache
def terms() -> dict[str, dict[str, str]]:
    """The glossary: per key, a lower-case word, its listed ``name`` and the ``text`` about it."""
    table = Path(__file__).parent / "glossary" / "terms.json"
    return dict(json.loads(table.read_text(encoding="utf-8")))


@cache
def plotly_path() -> Path:
    """plotly.js as the plotly package carries it, so that charts work without a network."""
    return Path(str(files("plotly") / "package_data" / "plotly.min.js"))


def page_axes() -> list[dict[str, Any]]:
    """The axes, each a ``DeclaredAxis`` of ``js/types.d.ts``, with the ends of the default grid."""
    grid = GRIDS[DEFAULT_GRID]
    return [
        {name: getattr(axis, name) for name in _AXIS_FIELDS}
        | {
            "levels": axis.levels_field,
            "dense": axis.dense,
            "min": levels[0] * axis.scale,
            "max": levels[-1] * axis.scale,
            "step": 0.5 if axis.whole else 1,
        }
        for axis, levels in zip(AXES, grid.levels(), strict=True)
    ]


def _data_element(name: str, value: Any) -> str:
    """Return JSON in a script element that nothing in it can end."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


@cache
def _hash() -> str:
    return tree_digest(JS, "*.js")


def module_url(name: str) -> str:
    """Return the address of a module, ``"explore/explore.js"``, relative to the page's."""
    return f"{MODULES_PLACE}/{_hash()}/{name}"


def module_route() -> Route:
    """Return the route that serves all modules, for ``launch(app_kwargs={"routes": […]})``."""
    # Not at the top: a notebook shows results with the modules, and has no server.
    from starlette.exceptions import HTTPException
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
