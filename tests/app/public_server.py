"""A public server over real HTTP, with the stand-in engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from app.host.limits import LIMITS_VARIABLE
from app.host.paths import DataDir
from app.site.server import launch_app
from app.web.services import Services, build_services
from tests.app.http_page import HttpPage
from tests.support.fake_engine import FakeEngine, fake_load
from tests.support.gradio_leftovers import closing_gradio_leftovers

__all__ = ["ANNA", "BEN", "Serve", "Server", "serving"]

ANNA, BEN = "a" * 32, "b" * 32


class Server(NamedTuple):
    url: str
    services: Services
    engine: FakeEngine
    opened: ExitStack

    def visitor(self, owner: str, **headers: str) -> HttpPage:
        return self.opened.enter_context(HttpPage(self.url, owner, headers))


Serve = Callable[..., Server]


@contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A function that starts the server; its keywords are environment variables."""
    with closing_gradio_leftovers(), ExitStack() as opened:

        def start(step_s: float = 0.0, **variables: str) -> Server:
            monkeypatch.delenv(LIMITS_VARIABLE, raising=False)
            for name, value in ({"SOL_PUBLIC": "1"} | variables).items():
                monkeypatch.setenv(name, value)
            data_dir = DataDir(folder / "data")
            data_dir.prepare()
            engine = FakeEngine(step_s=step_s)
            services = build_services(data_dir, "fake-model", fake_load, engine)
            opened.callback(services.close)
            app = launch_app(services, host="127.0.0.1", port=0)
            opened.callback(app.close, verbose=False)
            return Server(str(app.local_url), services, engine, opened)

        yield start
