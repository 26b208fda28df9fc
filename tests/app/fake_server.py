"""The page served over HTTP on the stand-in engine, for tests that attack it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.host.paths import DataDir
from app.site.server import launch_app
from app.web.services import Services, build_services
from tests.app.http_page import HttpPage
from tests.support.fake_engine import FakeEngine, fake_load
from tests.support.gradio_leftovers import closing_gradio_leftovers

__all__ = ["FakeServer", "serving"]


@dataclass(frozen=True)
class FakeServer:
    """A running server; ``url`` ends with a slash."""

    url: str
    services: Services
    opened: ExitStack

    def visitor(self, owner: str, **headers: str) -> HttpPage:
        """Somebody who has opened the page."""
        return self.opened.enter_context(HttpPage(self.url, owner, headers))


@contextmanager
def serving(folder: Path, engine: FakeEngine | None = None) -> Iterator[FakeServer]:
    """The limits are those of the environment."""
    data_dir = DataDir(folder)
    data_dir.prepare()
    with closing_gradio_leftovers(), ExitStack() as opened:
        services = build_services(data_dir, "fake-model", fake_load, engine or FakeEngine())
        opened.callback(services.close)
        app = launch_app(services, host="127.0.0.1", port=0)
        opened.callback(app.close, verbose=False)
        yield FakeServer(str(app.local_url), services, opened)
