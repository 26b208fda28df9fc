"""Nothing leaves the machine: neither the browser's requests nor the server's connections."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Server, Visitor, free_port
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser

_LISTENERS: list[list[str]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _LISTENERS:
        return
    address: Any = None
    if event == "socket.connect":
        address = arguments[1][0] if isinstance(arguments[1], tuple) else None
    elif event == "socket.getaddrinfo":
        address = arguments[0]
    if address is not None and not _is_local(address):
        _LISTENERS[-1].append(f"{event} {address}")


def _is_local(address: Any) -> bool:
    name = address.decode() if isinstance(address, bytes) else str(address)
    try:
        return ipaddress.ip_address(name).is_loopback or name == "0.0.0.0"
    except ValueError:
        return name in ("localhost", "")


@pytest.fixture
def connections() -> Iterator[list[str]]:
    """What this process connects to or looks up outside the machine, from now on."""
    if not getattr(sys, "_sol_audit_added", False):  # an audit hook cannot be taken off again
        sys.addaudithook(_audit)
        sys._sol_audit_added = True  # type: ignore[attr-defined]  # a mark for this process
    seen: list[str] = []
    _LISTENERS.append(seen)
    yield seen
    _LISTENERS.remove(seen)


def test_no_request_leaves_the_machine(
    connections: list[str], serve: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    # ``visit`` fails the test for any request of the browser to another host.
    visitor = visit(serve(FakeEngine(step_s=0.002), port=free_port()))  # started here, watched
    visitor.generate(max_new_tokens=30)
    visitor.expect_state("Finished")
    visitor.tokens.nth(3).hover()
    expect(visitor.card).to_be_visible()
    visitor.tab("History")
    expect(visitor.page.get_by_role("listitem")).to_have_count(1)
    visitor.page.wait_for_timeout(1000)
    fonts = visitor.page.evaluate(
        "[...document.fonts].filter((one) => one.status !== 'unloaded').map((one) => one.family)"
    )
    links = visitor.page.evaluate(
        """[...document.querySelectorAll("link[href], script[src], img[src], iframe[src]")]
        .map((one) => one.href || one.src)"""
    )
    assert fonts == []
    assert [link for link in links if not link.startswith((visitor.url, "data:"))] == []
    assert connections == []
