"""Modules as one inline script, for pages that are opened from a file.

A browser loads no module from ``file://`` but an inline one. The modules are put one after another,
imports and ``export`` taken away, so they share one scope: two of the same name are refused.
"""

from __future__ import annotations

import re

from app.web.modules import in_order, without_imports

_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) )", re.MULTILINE)
_TOP_LEVEL = re.compile(r"^(?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)


def bundle(entry: str) -> str:
    """Return the source of ``<script type="module">`` that does what importing ``entry`` does.

    Raises: ValueError when two modules have the same name at their top level.
    """
    owners: dict[str, str] = {}
    sources = []
    for module in in_order(entry):
        source = _EXPORT.sub("", without_imports(module))
        for name in _TOP_LEVEL.findall(source):
            if owners.setdefault(name, module) != module:
                raise ValueError(
                    f"{owners[name]} and {module} both have {name} at their top level; both are "
                    f"part of {entry}, which is exported as one script. Rename one of them."
                )
        sources.append(source)
    return "\n".join(sources)
