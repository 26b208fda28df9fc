"""Calls to a served page as its scripts make them, over HTTP."""

import time

from tests.load.page_client import PageClient


class HttpPage(PageClient):
    """One visitor of a server, who has opened the page; ``headers`` are sent with every call."""

    def __init__(self, url, owner, headers=None):
        super().__init__(url, owner, headers)
        self.open()

    def start(self, prompt, **settings):
        """Begin a generation; returns its id."""
        base = {"max_new_tokens": 6, "ignore_end_of_text": True, "chat": False}
        answer = self.call("explore", "start_run", prompt=prompt, settings=base | settings)
        assert "refused" not in answer, answer
        return str(answer["run_id"])

    def send(self, kind, name, data):
        """Upload a file."""
        asked = {"kind": kind, "owner": self.owner, "name": name}
        kind_of_data = {"Content-Type": "application/octet-stream"}
        place = "/gradio_api/sol-upload"
        answer = self._http.post(place, params=asked, content=data, headers=kind_of_data)
        return dict(answer.raise_for_status().json())

    def poll(self, run_id, tab="explore"):
        return self.call(tab, "poll_run", run_id=run_id, cursor=0)

    def wait(self, run_id, tab="explore", until=lambda view: not view["live"], seconds=60.0):
        """The run's view once it has ended, or ``until`` says so."""
        gives_up_at = time.monotonic() + seconds
        while not until(view := self.poll(run_id, tab)):
            assert time.monotonic() < gives_up_at, f"waited {seconds} s in vain: {view}"
            time.sleep(0.05)
        return view
