"""A stand-in for the Hugging Face Hub."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34
_MODEL = re.compile(r"/api/models/([\w.-]+/[\w.-]+)(?:/(\w+)/([\w.-]+))?(?:\?.*)?")
_FILE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/([\w.-]+)")


@dataclass
class HubStandIn:
    """Contents of the stand-in, and the tokens and names that it was sent."""

    url: str = ""
    token: str = "hf_secret"  # a write without it is refused
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)  # files by name
    tokens: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # claimed instead of the real ones


@contextmanager
def hub_stand_in():
    """A running stand-in on a port of its own."""
    hub = HubStandIn()

    class Handler(_Handler):
        held = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    held: HubStandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        hub = self.held
        if found := _MODEL.fullmatch(self.path):
            files = hub.repositories.get(found[1])
            if files is None:
                return self._answer(404, {"error": "Repository not found"}, "RepoNotFound")
            sizes = {name: hub.sizes.get(name, len(data)) for name, data in files.items()}
            if found[2] == "tree":
                kept = {"type": "file", "oid": "0" * 40}
                tree = [{**kept, "path": name, "size": size} for name, size in sizes.items()]
                return self._answer(200, tree)
            siblings = [
                {"rfilename": name, "size": size, "blobId": "0" * 40}
                for name, size in sizes.items()
            ]
            return self._answer(200, {"id": found[1], "sha": COMMIT, "siblings": siblings})
        return self._file()

    def do_HEAD(self):
        self._file()

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        body = b"".join(self._chunks()) if chunked else self.rfile.read(length)
        hub = self.held
        if self._token() != hub.token:
            return self._answer(401, {"error": f"Invalid token {self._token()}"})
        if self.path == "/api/repos/create":
            wanted = json.loads(body)
            repository = f"{wanted.get('organization', 'me')}/{wanted['name']}"
            hub.repositories.setdefault(repository, {})
            return self._answer(200, {"url": f"{hub.url}/{repository}"})
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        found = _MODEL.fullmatch(self.path)
        assert found is not None, self.path
        if found[2] == "preupload":
            asked = json.loads(body)["files"]
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in asked
            ]
            return self._answer(200, {"files": files})
        assert found[2] == "commit"
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                value = line["value"]
                data = base64.b64decode(value["content"])
                hub.repositories[found[1]][value["path"]] = data
        address = f"{hub.url}/{found[1]}/commit/{COMMIT}"
        return self._answer(200, {"commitUrl": address, "commitOid": COMMIT})

    def _file(self):
        found = _FILE.fullmatch(self.path)
        files = self.held.repositories.get(found[1], {}) if found else {}
        if found is None or found[3] not in files:
            return self._answer(404, {"error": "Entry not found"}, "EntryNotFound")
        data = files[found[3]]
        if self.command == "GET":
            self.held.fetched.append(found[3])
        return self._send(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"'})

    def _answer(self, status, record, code=""):
        extra = {"X-Error-Code": code, "X-Error-Message": str(record["error"])} if code else {}
        self._send(status, json.dumps(record).encode(), extra)

    def _send(self, status, data, headers):
        self._token()
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _token(self):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token:
            self.held.tokens.add(token)
        return token

    def _chunks(self):
        while size := int(self.rfile.readline().strip() or b"0", 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, format, *args):
        """Nothing: the name of the first argument is the base class's."""


def ask_at(url, monkeypatch):
    """What HF_ENDPOINT sets, had it been there when the Hub's client was imported."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
