"""The pages' handlers, called as the server calls them; questions and answers are JSON."""

import json

import orjson
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.host.paths import DataDir
from app.pages.shared.uploads import upload_route
from app.site.ui import UPLOADS
from app.web.calls import server_functions
from app.web.services import build_services, engine_run
from tests.app.waiting import wait_until

ANNA, BEN = "a" * 32, "b" * 32


def engine_services(folder, model):
    """Yields, for a fixture, the services over the real engine, once the model is there."""
    data_dir = DataDir(folder)
    data_dir.prepare()
    made = build_services(data_dir, "tiny", lambda report: model, engine_run(data_dir))
    wait_until(lambda: made.loader.loaded() is not None)
    yield made
    made.close()


def caller(services, *handlers):
    """A function that asks a handler by its name, as Anna unless another owner is given."""
    merged = {name: handler for some in handlers for name, handler in some.items()}
    by_name = {made.__name__: made for made in server_functions(services, merged)}

    def invoke(name, owner=ANNA, /, **request):
        answer = by_name[name]([{"owner": owner, **request}])
        json.dumps(answer, allow_nan=False)
        return dict(orjson.loads(orjson.dumps(answer)))

    return invoke


def sender(services):
    """A function that sends a file by its kind, name and bytes, as Anna unless another is given."""
    client = TestClient(Starlette(routes=[upload_route(services, UPLOADS)]))

    def invoke(kind, name, data, owner=ANNA, **headers):
        asked = {"kind": kind, "owner": owner, "name": name}
        answer = client.post("/gradio_api/sol-upload", params=asked, content=data, headers=headers)
        assert answer.status_code == 200
        return dict(answer.json())

    return invoke
