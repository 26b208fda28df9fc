"""The page served over HTTP on the stand-in engine, for tests that attack it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from app.host.limits import LIMITS_VARIABLE
from app.host.paths import DataDir
from app.site.server import launch_app
from app.web.services import Services, build_services
from tests.app.http_page import HttpPage
from tests.support.fake_engine import FakeEngine, fake_load
from tests.support.gradio_leftovers import closing_gradio_leftovers


class FakeServer(NamedTuple):
    """A running server; ``url`` ends with a slash."""

    url: str
    services: Services
    engine: FakeEngine
    opened: ExitStack
    app: Any

    def limiter(self):
        """The one that counts its connections."""
        return self.app.server.config.http_protocol_class._limiter

    def visitor(self, owner, **headers):
        """Somebody who has opened the page."""
        return self.opened.enter_context(HttpPage(self.url, owner, headers))


Serve = Callable[..., FakeServer]


@contextmanager
def serving(folder, engine=None):
    """The limits are those of the environment."""
    data_dir, engine = DataDir(folder), engine or FakeEngine()
    data_dir.prepare()
    with closing_gradio_leftovers(), ExitStack() as opened:
        services = build_services(data_dir, "fake-model", fake_load, engine)
        opened.callback(services.close)
        app = launch_app(services, host="127.0.0.1", port=0)
        opened.callback(app.close, verbose=False)
        yield FakeServer(str(app.local_url), services, engine, opened, app)


@contextmanager
def public_servers(folder, monkeypatch):
    """A function that starts a public server; its keywords are environment variables."""
    with ExitStack() as opened:

        def start(step_s=0.0, **variables):
            monkeypatch.delenv(LIMITS_VARIABLE, raising=False)
            for name, value in ({"SOL_PUBLIC": "1"} | variables).items():
                monkeypatch.setenv(name, value)
            return opened.enter_context(serving(folder / "data", FakeEngine(step_s=step_s)))

        yield start
