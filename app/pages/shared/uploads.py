"""Files that a browser sends: one route, which streams each to the disk.

A file lies under a hidden random name until its last byte is there and somebody takes it.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.host import memory
from app.host.errors import AppError
from app.host.limits import Holder, Quota
from app.host.visitor import address_of
from app.web.calls import RequestError, owner_of
from app.web.services import Services
from sol_core.errors import SolError
from storage import StorageError

UPLOADS_PATH = "gradio_api/sol-upload"  # under Gradio's own prefix, which proxies pass on
QUOTA = Quota("uploads going on", of_visitor=4, of_address=16, of_all=32)
# Read and dropped of a file that is refused: a client that is still sending hears no answer.
DROPPED_BYTES = 64 * 1024**2
TAKEN_AT_ONCE = 2  # files that are read: memory is many times their size
IDLE_S = 60.0  # without a byte: who sends nothing keeps nobody else from sending
_KEEP_FREE_BYTES = 500 * 1024**2
_KEEP_PARTIAL_S = 24 * 3600  # of a process that was killed
_NOT_STORED = "The file cannot be stored"
_GONE_STATUS = 400  # of who left


@dataclass(frozen=True, slots=True)
class UploadKind:
    """A kind of file that visitors send."""

    what: str  # it, for messages: "A corpus file"
    advice: str  # what to do with one that is too large
    limit: Callable[[Services], int]  # bytes that one may have here
    check: Callable[[Services, str, str, int], None]  # visitor, name, size: before all is read
    take: Callable[[Services, str, str, Path], dict[str, Any]]  # the answer is the page's


def upload_route(services: Services, kinds: Mapping[str, UploadKind]) -> Route:
    """Return the route: a query of "kind", "owner" and the file's "name"; the body is the file."""
    going: list[Holder] = []
    taking = asyncio.Semaphore(TAKEN_AT_ONCE)

    async def upload(request: Request) -> Response:
        asked = request.query_params
        try:
            kind = kinds.get(asked.get("kind", ""))
            if kind is None:
                raise RequestError(f"kind must be one of {', '.join(kinds)}. Reload the page.")
            owner, name = owner_of({"owner": asked.get("owner")}), asked.get("name", "")
            size = _size_of(request, kind, kind.limit(services))
            kind.check(services, owner, name, size)
            holder = Holder(owner, address_of(request))
            with _counted(going, holder), _part(services.data_dir.uploads, size) as part:
                await _store(request, part, size)
                async with taking:
                    answer = await run_in_threadpool(_taken, kind, services, owner, name, part)
                return JSONResponse(answer)
        except ClientDisconnect:
            return PlainTextResponse("", _GONE_STATUS)
        except (SolError, StorageError) as error:
            refused = str(error)
        except OSError as error:
            refused = f"{_NOT_STORED}: {error.strerror}."
        await _drop(request)
        return JSONResponse({"refused": refused})

    return Route(f"/{UPLOADS_PATH}", upload, methods=["POST"])


def _taken(
    kind: UploadKind, services: Services, owner: str, name: str, part: Path
) -> dict[str, Any]:
    """The page's answer, be it a refusal.

    An error that left this thread would be part of a cycle with the call that waits for it, and its
    frames hold all that was read of the file until the garbage collector runs.
    """
    shown = f"{Path(name).name[:80]!r}"
    try:
        return kind.take(services, owner, name, part)
    except (SolError, StorageError) as error:
        return {"refused": str(error).replace(str(part), shown).replace(part.name, shown)}
    except OSError as error:
        return {"refused": f"{_NOT_STORED}: {error.strerror}."}
    finally:
        memory.give_back()


def _size_of(request: Request, kind: UploadKind, most: int) -> int:
    text = request.headers.get("content-length", "")
    if not text.isdecimal() or len(text) > 15:
        raise AppError("The size of the file must be announced. Choose it again.")
    size = int(text)
    if not 0 < size <= most:
        raise AppError(
            f"{kind.what} may have 1 byte to {most // 1024**2} MB, this one has "
            f"{size / 1024**2:,.1f} MB. {kind.advice}"
        )
    return size


@contextmanager
def _counted(going: list[Holder], holder: Holder) -> Iterator[None]:
    QUOTA.check(going, *holder)
    going.append(holder)
    try:
        yield
    finally:
        going.remove(holder)


@contextmanager
def _part(folder: Path, size: int) -> Iterator[Path]:
    """A file on its way. Raises: AppError when there is no room for it; OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".part-*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _KEEP_PARTIAL_S:
                left.unlink()
    part = folder / f".part-{secrets.token_hex(16)}"
    try:
        part.touch()  # a disk that may only be read says so, however full it is
        if shutil.disk_usage(folder).free < size + _KEEP_FREE_BYTES:
            raise AppError("The disk of the data directory is full: free some space.")
        yield part
    finally:
        part.unlink(missing_ok=True)


async def _store(request: Request, part: Path, size: int) -> None:
    have, stream = 0, request.stream()
    with part.open("wb") as file:
        while have <= size:
            try:
                chunk = await asyncio.wait_for(anext(stream, None), IDLE_S)
            except TimeoutError as error:
                raise AppError("Nothing more of the file came. Choose it again.") from error
            if chunk is None:
                break
            have += len(chunk)
            file.write(chunk)
    if have != size:
        raise AppError("The file has another size than was announced. Choose it again.")


async def _drop(request: Request) -> None:
    left = DROPPED_BYTES
    with suppress(RuntimeError, ClientDisconnect):  # all of it was read; nobody is there
        async for chunk in request.stream():
            left -= len(chunk)
            if left < 0:
                return
