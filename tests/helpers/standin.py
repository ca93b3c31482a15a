"""A stand-in of the Hugging Face Hub on this machine."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants as hub
import pytest
from huggingface_hub import hf_api


class StandIn(BaseHTTPRequestHandler):
    """Answers the requests of an upload, as https://huggingface.co/docs/hub/api has them."""

    def do_HEAD(self):
        """Nothing has been uploaded yet."""
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        server.requests.append((self.path, self.headers.get("Authorization")))
        if self.headers.get("Authorization") != "Bearer sesame":
            self._answer({"error": "Invalid credentials in Authorization header"}, status=401)
        elif self.path == "/api/repos/create":
            server.created.append(json.loads(body))
            self._answer({"url": f"{server.url}/somebody/{server.created[-1]['name']}"})
        elif self.path == "/api/validate-yaml":  # the Hub's own check of a model card
            server.checked.append(json.loads(body)["content"])
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            server.message = lines[0]["value"]["summary"]
            for line in lines[1:]:
                server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer({"commitUrl": f"{server.url}/somebody/mine/commit/1", "commitOid": "1", "hookOutput": ""})

    def _answer(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@contextmanager
def hub_stand_in() -> Iterator[ThreadingHTTPServer]:
    """The stand-in, while it answers in the hub's place; what it was sent is on it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.requests, server.created, server.checked, server.files = [], [], [], {}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "ENDPOINT", server.url)
        patch.setattr(hub, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(hub, "HF_HUB_OFFLINE", False)
        patch.setattr(hf_api.api, "endpoint", server.url)  # the module's own, which transformers pushes with
        yield server
    server.shutdown()
    thread.join()
    server.server_close()
