"""Services on the stand-in engine; a file that needs more of them has its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.host.paths import DataDir
from app.web.services import Services, build_services
from tests.support.fake_engine import FakeEngine, fake_load


@pytest.fixture
def services(data_dir: DataDir) -> Iterator[Services]:
    made = build_services(data_dir, "fake-model", fake_load, FakeEngine())
    yield made
    made.close()
