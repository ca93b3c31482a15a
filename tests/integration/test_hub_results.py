"""``push_to_hub`` against a stand-in of the Hugging Face Hub on this machine."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants as hub
import pytest
from huggingface_hub import ModelCard
from llamafactory.hparams import get_train_args
from runs import run_recipe


class StandIn(BaseHTTPRequestHandler):
    """Answers the requests of an upload, as https://huggingface.co/docs/hub/api has them."""

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
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
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


@pytest.fixture
def server(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.requests, server.created, server.checked, server.files = [], [], [], {}
    monkeypatch.setattr(hub, "ENDPOINT", server.url)
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_finished_run_is_pushed_without_what_belongs_to_clients(text_recipe, server):
    keys = text_recipe(
        "mine", fcit_num_rounds=1, fcit_keep_client_updates=True, push_to_hub=True, hub_token="sesame",
        hub_private_repo=True, fcit_eval_samples=2,
    )  # fmt: skip
    folder = run_recipe(keys)
    assert [(made["name"], made["visibility"]) for made in server.created] == [("mine", "private")]
    assert server.requests[0][0] == "/api/repos/create"
    assert any("/api/models/somebody/mine/commit/main" in path for path, _ in server.requests)
    expected = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in ("updates", "checkpoints")
    }
    assert (folder / "updates").is_dir()
    assert server.files.keys() == expected
    assert {"README.md", "fcit_manifest.json", "subspaces/0/adapter_model.safetensors"} <= expected
    assert all((folder / name).read_bytes() == data for name, data in server.files.items())
    assert server.message == "End of training"
    assert server.checked == [server.files["README.md"].decode()]
    data = ModelCard(server.files["README.md"].decode(), ignore_metadata_errors=False).data
    assert data.pipeline_tag == "text-generation"
    assert {result.metric_type for result in data.eval_results} >= {"exact_match", "last"}


def test_a_wrong_token_shows_before_the_run_begins(text_recipe, server, tmp_path):
    keys = text_recipe("out", push_to_hub=True, hub_token="guess", hub_model_id="somebody/else")
    with pytest.raises(ValueError, match="`push_to_hub: true`.*somebody/else.*`hub_token`"):
        run_recipe(keys)
    assert [path for path, _ in server.requests] == ["/api/repos/create"]
    assert not (tmp_path / "out" / "fcit_manifest.json").exists()


@pytest.mark.parametrize("stage", ["fcit_client", "fcit_aggregate"])
def test_sites_do_not_push(text_recipe, stage):
    with pytest.raises(ValueError, match=f"`push_to_hub` belongs to `stage: fcit`.*{stage}"):
        get_train_args(text_recipe(stage=stage, push_to_hub=True))
