"""The gate before every route of the page's server, Gradio's own included.

A browser sends requests to this server on behalf of any page that it shows: a cross-site ``fetch``
with text/plain needs nobody's leave, and a name that its owner points at 127.0.0.1 makes the page
behind it look like ours. So a request is served when all of this holds:

- ``Host`` is a name that this server has, or an address (an address cannot be pointed elsewhere);
- ``Origin``, when there is one, is the same host and port, or a host of ``SOL_ALLOWED_HOSTS`` or of
  the Space (a proxy may rewrite ``Host``);
- ``Sec-Fetch-Site``, when there is one, says that the request comes from this page or from the
  address bar; the page itself may be opened by a link;
- the page asks for this path by this method: of the hundred routes of Gradio, others write files,
  keep what a stranger sends, or log a traceback each;
- what changes something is application/json and a call (``call_bodies.py``), or an upload of
  application/octet-stream, whose route counts it.

Programs send neither ``Origin`` nor ``Sec-Fetch-Site`` and pass. ``X-Forwarded-Host`` is not read:
anyone who can set it could set ``Host``.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.host.hosting import is_space
from app.host.visitor import address_of
from app.pages.shared.uploads import DROPPED_BYTES, UPLOADS_PATH
from app.site.answer_turns import AnswerTurns
from app.site.call_bodies import CallBodies, RequestRefusedError
from app.web.assets import MODULES_PLACE, plotly_path
from sol_core.errors import ConfigError

ALLOWED_HOSTS_VARIABLE = "SOL_ALLOWED_HOSTS"
SPACE_HOST_VARIABLE = "SPACE_HOST"  # set by Hugging Face
SPACE_DOMAIN = ".hf.space"

# Of a call, and more for each character of its text, which may be written as "\ud83d\ude00".
BODY_BYTES, BYTES_PER_CHARACTER = 2 * 1024**2, 12

_LOOPBACK = frozenset({"localhost"})
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_NETLOC = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:@/,\s]+))(?::\d*)?")
_STILL_SENT = (413, 429)  # refusals of a body
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_FILE = "application/octet-stream"
_READ = ("host", "origin", "sec-fetch-site", "sec-fetch-mode", "content-type", "content-length",
         "expect")  # fmt: skip
_LOOK, _ASK = ("GET", "HEAD"), ("POST",)
_FRAME_RULE = (b"content-security-policy", b"frame-ancestors 'self'")


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """Hosts, origins and requests that a server lets in."""

    names: frozenset[str] = _LOOPBACK  # hosts that it is reached by, beside every address
    trusted: frozenset[str] = frozenset()  # their pages may call when a proxy rewrote ``Host``
    domain: str = ""  # end of further names that it is reached by
    max_body: int = BODY_BYTES  # of a request
    may_be_framed: bool = False  # by pages of other sites

    @classmethod
    def of_server(
        cls, bound: str | None, characters: int, environment: Mapping[str, str] = os.environ
    ) -> GatePolicy:
        """The policy of a server that listens on ``bound``."""
        on_space = is_space()
        trusted = {*_listed(environment, ALLOWED_HOSTS_VARIABLE)}
        trusted |= {*_listed(environment, SPACE_HOST_VARIABLE)} if on_space else set()
        return cls(
            names=_LOOPBACK | trusted | _own_names(bound),
            trusted=frozenset(trusted),
            domain=SPACE_DOMAIN if on_space else "",
            max_body=BODY_BYTES + BYTES_PER_CHARACTER * characters,
            may_be_framed=on_space,
        )

    def serves(self, netloc: str) -> bool:
        """Return whether a request may name this host."""
        name = _name_of(netloc)
        if name in self.names or _is_address(name):
            return True
        return bool(self.domain) and name.endswith(self.domain)

    def trusts(self, origin: str, host: str) -> bool:
        """Return whether a page of this origin may call what it reached as ``host``."""
        netloc = origin.lower().partition("://")[2]
        return netloc == host.lower() or _name_of(netloc) in self.trusted


@dataclass(frozen=True, slots=True)
class HostGuard:
    """Pure ASGI middleware: refuses with a status and a sentence, before any route."""

    app: ASGIApp
    policy: GatePolicy
    calls: CallBodies
    turns: AnswerTurns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # the page opens none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = _headers(scope)
        try:
            self._check(scope, headers)
            if not self.policy.may_be_framed:
                send = _refusing_frames(send)
            if scope["method"] in _SAFE_METHODS:
                async with self.turns.turn(address_of(Request(scope))):
                    await self.app(scope, receive, _until_written(send))
                return
            if _is_upload(scope):
                await self.app(scope, receive, send)
                return
            async with self.calls.read(scope, receive) as call:
                await self.app(scope, call, send)
        except RequestRefusedError as refusal:
            is_sending = refusal.status in _STILL_SENT and "expect" not in headers
            await _refuse(send, refusal, receive if is_sending else None)

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        """Raises: RequestRefusedError, as far as the headers say."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.policy.serves(host):
            raise RequestRefusedError(
                421,
                f"This server does not answer to the name {host[:100]!a}. If it is yours, start "
                f"the server with {ALLOWED_HOSTS_VARIABLE} set to it (names, separated by commas).",
            )
        if origin is not None and not self.policy.trusts(origin, host):
            raise RequestRefusedError(
                403,
                f"A page of {origin[:100]!a} may not use this server. If a proxy of yours "
                f"serves it under that name, set {ALLOWED_HOSTS_VARIABLE} to the name.",
            )
        if not _is_from_here(scope, headers):
            raise RequestRefusedError(
                403,
                "A page of another site may link to this page, and not use this server. Open the "
                "page's own address.",
            )
        if not is_allowed_route(scope["method"], _path(scope)):
            raise RequestRefusedError(
                404, "No page of this server asks for this. Open the page's own address."
            )
        if scope["method"] in _SAFE_METHODS:
            return
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        wanted = _FILE if _is_upload(scope) else "application/json"
        if kind != wanted:
            raise RequestRefusedError(415, f"Send Content-Type: {wanted}.")
        length = headers.get("content-length", "0")
        if not _is_upload(scope) and (
            len(length) > 15 or (length.isdecimal() and int(length) > self.policy.max_body)
        ):
            raise self.calls.too_large()


@cache
def _allowed_routes() -> tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]:
    name = r"\w[\w.@+-]{0,127}"  # a longer one is an error of the file system
    path = f"(?:{name}/){{0,7}}{name}"
    routes = (
        (_LOOK, "/"),
        (_LOOK, "/favicon.ico"),
        (_LOOK, "/theme.css"),
        (_LOOK, f"/assets/{path}"),  # Gradio's scripts, styles and fonts
        (_LOOK, f"/static/(?:fonts|img|js)/{path}"),
        (_LOOK, f"/{MODULES_PLACE}/{path}"),
        (_LOOK, re.escape(f"/gradio_api/file={plotly_path().as_posix()}")),
        (("GET",), "/gradio_api/startup-events"),  # Gradio's own launch asks for it
        (_ASK, "/gradio_api/component_server/?"),  # calls of the page, see ``calls.py``
        (_ASK, f"/{UPLOADS_PATH}"),
    )
    return tuple((methods, re.compile(path, re.ASCII)) for methods, path in routes)


def is_allowed_route(method: str, path: str) -> bool:
    return any(method in methods and form.fullmatch(path) for methods, form in _allowed_routes())


def _is_from_here(scope: Scope, headers: dict[str, str]) -> bool:
    """Return whether a browser, if it is one, sends this for our page, or to open our page."""
    if headers.get("sec-fetch-site", "none").lower() in ("same-origin", "none"):
        return True
    is_opened = headers.get("sec-fetch-mode", "").lower() == "navigate" and _path(scope) == "/"
    return is_opened and scope["method"] in ("GET", "HEAD")


def _is_upload(scope: Scope) -> bool:
    return _path(scope) == f"/{UPLOADS_PATH}"


def _path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", "")) or "/"


def _headers(scope: Scope) -> dict[str, str]:
    """The headers that are read; one that is sent twice has both values and fits nothing."""
    sent = Headers(raw=scope["headers"])
    values = {name: [value.strip() for value in sent.getlist(name)] for name in _READ}
    return {name: ",".join(texts) for name, texts in values.items() if texts}


def _name_of(netloc: str) -> str:
    """The host without its port; "" for what is no host."""
    match = _NETLOC.fullmatch(netloc.lower())
    return (match[1] or match[2]).removesuffix(".") if match else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _own_names(bound: str | None) -> frozenset[str]:
    name = _name_of(bound or "localhost")
    if name in ("localhost", "127.0.0.1"):
        return frozenset()
    machine = socket.gethostname().lower()
    return frozenset({name, machine, f"{machine.partition('.')[0]}.local"} - {""})


def _listed(environment: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """A variable's comma-separated hosts, in lower case. Raises: ConfigError for another form."""
    listed = [host.strip().lower() for host in environment.get(variable, "").split(",")]
    for host in filter(None, listed):
        if not _NAME.fullmatch(host):
            raise ConfigError(
                f"{variable} must be host names without scheme and port, separated by commas "
                f"(sol.example.org), got {host!r}: correct or remove it where the server's "
                "variables are set"
            )
    return tuple(filter(None, listed))


def _refusing_frames(send: Send) -> Send:
    """A ``send`` that forbids frames of other sites: a click there may not hit what is seen."""

    async def with_rule(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), _FRAME_RULE]
        await send(message)

    return with_rule


def _until_written(send: Send) -> Send:
    """A ``send`` that returns from an answer's last part when the system has all of it."""

    async def in_two_parts(message: Message) -> None:
        if message.get("body") and not message.get("more_body", False):
            await send({**message, "more_body": True})
            message = {"type": "http.response.body", "body": b""}  # for which uvicorn waits
        await send(message)

    return in_two_parts


async def _refuse(send: Send, refusal: RequestRefusedError, receive: Receive | None) -> None:
    body = str(refusal).encode("ascii")
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    left, more = DROPPED_BYTES, True
    while receive is not None and more and left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.body", "body": b""})
