"""The pages' handlers, called as the server calls them; questions and answers are JSON."""

import json

import orjson

from app.web.calls import server_functions

ANNA, BEN = "a" * 32, "b" * 32


def caller(services, *handlers):
    """A function that asks a handler by its name, as Anna unless another owner is given."""
    merged = {name: handler for some in handlers for name, handler in some.items()}
    by_name = {made.__name__: made for made in server_functions(services, merged)}

    def invoke(name, owner=ANNA, /, **request):
        answer = by_name[name]([{"owner": owner, **request}])
        json.dumps(answer, allow_nan=False)
        return dict(orjson.loads(orjson.dumps(answer)))

    return invoke
