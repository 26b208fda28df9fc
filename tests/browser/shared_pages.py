"""Pages that many tests are served by, one after another, each on services of its own."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from app.site.server import launch_app
from tests.support.gradio_leftovers import closing_gradio_leftovers


class _CurrentServices:
    """Stands in for a page's services: those of the test that has it now."""

    def __init__(self):
        self.current = None

    def __getattr__(self, name):
        return getattr(self.current, name)


@dataclass
class _Page:
    services: _CurrentServices
    app: Any


@dataclass
class SharedPages:
    """Started pages by what was built into them."""

    pages: dict[Hashable, _Page] = field(default_factory=dict)

    def lend(self, services):
        """The address of a page that now has these services, and how to give it back."""
        page = self._page(services)
        if page.services.current is not None:
            return None
        page.services.current = services

        def give_back():
            page.services.current = None

        return page.app.local_url, give_back

    def close(self):
        with closing_gradio_leftovers():
            for page in self.pages.values():
                page.app.close(verbose=False)

    def _page(self, services):
        # All that ``Page.build`` reads of the services; everything else is asked for by each call.
        built_in = (services.is_shared, repr(services.limits), tuple(services.policies.names()))
        if built_in not in self.pages:
            stand_in = _CurrentServices()
            stand_in.current = services
            with closing_gradio_leftovers():
                app = launch_app(stand_in, host=None, port=0)
            stand_in.current = None
            self.pages[built_in] = _Page(stand_in, app)
        return self.pages[built_in]
