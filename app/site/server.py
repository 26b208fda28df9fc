"""Starts the web server; torch is imported by the loading thread only, after the page is up."""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from app.host import environment
from app.host.console import Console
from app.host.errors import AppError, system_errors
from app.host.paths import DataDir
from app.host.processes import publish_url
from app.jobs.supervisor import WorkerSupervisor, worker_command
from app.jobs.worker import reaping
from app.site.call_bodies import CallBodies
from app.site.connections import (
    ConnectionLimiter,
    bounding_connections,
    raise_file_limit,
    widen_backlog,
)
from app.site.host_guard import GatePolicy, HostGuard
from app.web.services import Services, build_services, engine_load, engine_run

if TYPE_CHECKING:
    import gradio as gr

# Gradio keeps 35 KB of every visitor, of 10,000 unless told otherwise; no page here needs it.
SESSIONS = 200
IDLE_S = 0.1  # of Gradio's queue


def serve(
    data_dir: DataDir,
    host: str | None,
    port: int | None,
    open_browser: bool,
    model_name: str,
    dtype: str,
) -> None:
    """Serve until interrupted; without a ``port`` on the first free one from 7860, of 0 on any."""
    if port:
        check_port(host or "127.0.0.1", port)
    load = engine_load(data_dir, model_name, dtype)
    services = build_services(data_dir, model_name, load, engine_run(data_dir))
    try:
        with _background_work(services, dtype), contextlib.suppress(KeyboardInterrupt):
            app = launch_app(services, host=host, port=port, open_browser=open_browser)
            publish_url(services.data_dir.lock_file, str(app.local_url))
            Console().say(f"SOL Explorer is at {app.local_url} (Ctrl+C ends it)")
            app.block_thread()
    finally:
        services.close()


@contextlib.contextmanager
def _background_work(services: Services, dtype: str) -> Iterator[None]:
    """A worker process beside the page, and an eye on every worker; both end with the page."""
    with reaping(services.store.jobs):
        if not services.jobs_allowed:
            yield
            return
        command = worker_command(services.data_dir, dtype)
        supervisor = WorkerSupervisor(services.data_dir, command)
        supervisor.start()
        try:
            yield
        finally:
            supervisor.stop(lambda: Console().say("Waiting for the worker's checkpoint"))


def launch_app(
    services: Services, *, host: str | None, port: int | None, open_browser: bool = False
) -> gr.Blocks:
    """Build and launch without blocking. Raises: AppError; ConfigError for SOL_ALLOWED_HOSTS."""
    environment.keep_local()  # before Gradio is imported
    from app.site.ui import build_app

    raise_file_limit()
    if port == 0:
        with socket.create_server((host or "127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
    app = build_app(services)
    # Gradio looks into its empty queue up to a thousand times a second, which is 6 % of a core with
    # no page open. The page's calls do not go through it.
    app._queue.sleep_when_free = app._queue.progress_update_sleep_when_free = IDLE_S
    limiter = ConnectionLimiter.of_server()
    options = _launch_options(services, app, host, port, limiter)
    options["inbrowser"] = open_browser
    try:
        # Older releases of Gradio lack some options; none of them changes what the page does.
        known = set(inspect.signature(app.launch).parameters)
        required = {"app_kwargs"}  # without them there would be no guard
        with bounding_connections(limiter):
            app.launch(**{name: options[name] for name in options if name in known | required})
        widen_backlog(app.server)
    except OSError as error:
        raise AppError(f"No port could be opened: {error}. Choose one with --port.") from error
    return app


def _launch_options(
    services: Services,
    app: gr.Blocks,
    host: str | None,
    port: int | None,
    limiter: ConnectionLimiter,
) -> dict[str, Any]:
    """Gradio's options, the guard among them. Raises: ConfigError for SOL_ALLOWED_HOSTS."""
    from starlette.middleware import Middleware

    from app.pages.shared.uploads import upload_route
    from app.site.ui import UPLOADS, page_constants
    from app.web.assets import module_route, page_head
    from app.web.theme import build_theme

    bound = host or os.environ.get("GRADIO_SERVER_NAME")
    policy = GatePolicy.of_server(bound, services.limits.characters)
    calls = CallBodies(policy.max_body, app.blocks)
    guard = Middleware(HostGuard, policy=policy, calls=calls, turns=limiter.turns)
    return {
        "theme": build_theme(),
        "head": page_head(page_constants(services)),
        "prevent_thread_lock": True,
        "show_error": True,
        "quiet": True,
        "share": False,
        "footer_links": [],
        "run_history": False,
        "state_session_capacity": SESSIONS,
        "ssr_mode": False,  # else a Node process would serve before the guard
        "server_name": host,
        "server_port": port,
        "app_kwargs": {
            "routes": [module_route(), upload_route(services, UPLOADS)],
            "middleware": [guard],
        },
    }


def check_port(host: str, port: int) -> None:
    """Raises: AppError when something already listens on ``host``:``port``, or it is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        remedy = "; choose another with --port, or leave --port out to take the next free one"
        with system_errors(f"port {port} on {host} cannot be used", AppError, remedy):
            try:
                probe.bind((host, port))
            except OverflowError as error:
                raise AppError(f"port must be between 0 and 65535, got {port}") from error
