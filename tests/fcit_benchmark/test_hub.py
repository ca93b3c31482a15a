"""Fetching instructions and partitions: ``huggingface_hub`` against a small server here that answers as the hub does."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from runs import fresh_process

from fcit_plugin.fcit_benchmark.hub import place_of
from fcit_plugin.fcit_benchmark.layout import LAYOUT

REPO = "datasets/MLLM-CL/FCIT"
SHA = "0" * 39 + "1"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("instructions/ArxivQA/train_4w.json", "instructions/ArxivQA/train_4w.json"),
        ("instruction/instruction_all.zip/instruction_all/ArxivQA/test_1w.json", "instructions/ArxivQA/test_1w.json"),
        ("OCRVQA/train_10w.json", "instructions/OCRVQA/train_10w.json"),
        ("x.zip/Flickr30k-cap/val_coco_type.json", "instructions/Flickr30k-cap/val_coco_type.json"),
        (
            "partitioned_data/Task-related/seq/1.0/Task1/client_0.json",
            "partitioned_data/Task-related/seq/1.0/Task1/client_0.json",
        ),
        ("p.zip/seq/0.5/Task8/client_49.json", "partitioned_data/Task-related/seq/0.5/Task8/client_49.json"),
        ("cap/5.0/Task4/client_3.json", "partitioned_data/Capability-related/cap/5.0/Task4/client_3.json"),
        ("README.md", None),
        ("instruction/other.json", None),
        ("a.zip/../ArxivQA/train_4w.json", None),
        ("a.zip/__MACOSX/ArxivQA/train_4w.json", None),
        ("a.zip/ArxivQA/._train_4w.json", None),
        ("dataset/DVQA/images/1.png", None),
        ("", None),
    ],
)
def test_a_files_place_is_told_by_the_folders_that_the_benchmark_knows(path, place):
    assert place_of(path) == place


def archive(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return stream.getvalue()


@pytest.fixture
def hub(small_mini):
    """The endpoint of a hub whose dataset holds FCIT-mini's instructions and two partition files; and what was asked for."""
    instructions = {
        f"instruction_all/{layout.folder}/{path.name}": path.read_text()
        for layout in LAYOUT.values()
        for path in (small_mini / "instructions" / layout.folder).iterdir()
    }
    files = {
        "README.md": b"# FCIT",
        "dataset/DVQA.zip": b"images, which nobody asked for",
        "instruction/instruction_all.zip": archive(instructions | {"instruction_all/notes.txt": "?"}),
        "partitioned_data/Task-related.zip": archive({f"seq/1.0/Task1/client_{i}.json": "[]" for i in range(2)}),
    }
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.split("?")[0].lstrip("/")
            asked.append(path)
            if path == f"api/{REPO}/revision/main":
                siblings = [{"rfilename": name} for name in files]
                self.answer(json.dumps({"id": "MLLM-CL/FCIT", "sha": SHA, "siblings": siblings}).encode())
            elif path.startswith(f"api/{REPO}/tree/"):
                entries = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
                self.answer(json.dumps(entries).encode())
            elif path.startswith(f"{REPO}/resolve/{SHA}/"):
                self.answer(files[path.removeprefix(f"{REPO}/resolve/{SHA}/")])
            else:
                self.send_error(404)

        do_HEAD = do_GET

        def answer(self, content):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", SHA)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def online(hub, tmp_path):
    """The environment in which that hub is the hub."""
    return {"HF_ENDPOINT": hub[0], "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.json")}


def test_instructions_alone_are_fetched_and_put_in_place(hub, online, small_mini, tmp_path):
    shown = fresh_process(["fcit-cli", "data", "download", "--root", str(tmp_path / "root")], online).stdout
    assert contents(tmp_path / "root" / "instructions") == contents(small_mini / "instructions")
    assert not (tmp_path / "root" / "partitioned_data").exists()
    assert "25 files written, 0 were there and stay" in shown
    assert "1 files have no place in the benchmark: instruction/instruction_all.zip/instruction_all/notes.txt" in shown
    assert not [path for path in hub[1] if "DVQA" in path or "README" in path or "Task-related" in path]


def test_files_that_are_there_stay_and_the_cache_serves_when_offline(online, tmp_path):
    command = ["fcit-cli", "data", "download", "--root", str(tmp_path / "root"), "--parts", "instructions,partitioned_data"]
    fresh_process(command, online)
    assert sorted(contents(tmp_path / "root" / "partitioned_data")) == [
        f"Task-related/seq/1.0/Task1/client_{i}.json" for i in range(2)
    ]
    changed = tmp_path / "root" / "instructions" / "ArxivQA" / "test_1w.json"
    changed.write_text("mine")
    (tmp_path / "root" / "instructions" / "DVQA" / "test.json").unlink()
    shown = fresh_process(command, online | {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}).stdout
    assert "1 files written, 24 were there and stay" in shown
    assert changed.read_text() == "mine"
    assert (tmp_path / "root" / "instructions" / "DVQA" / "test.json").is_file()


def test_the_root_called_hub_has_what_is_needed_on_first_use(online, small_mini, tmp_path):
    code = "from fcit_plugin.data.root import benchmark_root as root; print(root(), root(None, 'partitioned_data'))"
    env = online | {"FCIT_DATA_DIR": "hub", "FCIT_CACHE": str(tmp_path / "cache")}
    shown = fresh_process(["python", "-c", code], env).stdout.split()
    assert shown == [str(tmp_path / "cache" / "FCIT")] * 2
    assert contents(tmp_path / "cache" / "FCIT" / "instructions") == contents(small_mini / "instructions")
    assert len(contents(tmp_path / "cache" / "FCIT" / "partitioned_data")) == 2


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["download", "--root", "root"], {"HF_HUB_OFFLINE": "1"}),
        (["verify"], {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "FCIT_DATA_DIR": "hub"}),
    ],
    ids=["offline", "no network"],
)
def test_without_the_hub_one_sentence_says_what_to_do(words, env, tmp_path):
    env = env | {"HF_HOME": str(tmp_path / "hf"), "FCIT_CACHE": str(tmp_path / "cache")}
    command = [str(Path(sys.executable).parent / "fcit-cli"), "data", *words]
    done = subprocess.run(command, env=os.environ | env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("fcit-cli: The Hugging Face dataset MLLM-CL/FCIT cannot be fetched (LocalEntryNotFoundError): ")
    assert "connect to the network" in sentence and "https://huggingface.co/datasets/MLLM-CL/FCIT" in sentence
    assert not (tmp_path / "root").exists()


class TestWhatTheHubLacks:
    def snapshot(self, monkeypatch, folder, files):
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **more: str(folder))

    def run(self, monkeypatch, *arguments):
        from fcit_plugin.cli import main

        monkeypatch.setattr("sys.argv", ["fcit-cli", "data", "download", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return str(caught.value.code)

    def test_a_part_without_files_is_named(self, monkeypatch, tmp_path):
        self.snapshot(monkeypatch, tmp_path / "hub", {"instruction/x.json": b"[]"})
        sentence = self.run(monkeypatch, "--root", str(tmp_path / "root"))
        assert sentence.startswith(
            "fcit-cli: No instructions were found in the Hugging Face dataset MLLM-CL/FCIT; it has instru"
        )

    def test_a_broken_archive_is_named(self, monkeypatch, tmp_path):
        self.snapshot(monkeypatch, tmp_path / "hub", {"instruction/all.zip": b"PK, or not"})
        sentence = self.run(monkeypatch, "--root", str(tmp_path / "root"))
        assert f"The archive {tmp_path / 'hub/instruction/all.zip'} is broken" in sentence

    def test_an_unknown_part_is_named(self, monkeypatch, tmp_path):
        sentence = self.run(monkeypatch, "--root", str(tmp_path), "--parts", "images")
        assert sentence == "fcit-cli: `--parts` has no `images`; it takes instructions and partitioned_data."
