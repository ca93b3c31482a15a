"""Readers of runs' folders and commits."""

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from flwr.app import RecordDict
from reader import Reader
from reports import two_stages
from toy import own

from fcit_plugin.engine.continuation import Earlier
from fcit_plugin.engine.fingerprint import numbers
from fcit_plugin.engine.resume import _start
from fcit_plugin.evaluation.report import REPORT_JSON
from fcit_plugin.federation.client_states import FOLDER as CLIENTS
from fcit_plugin.federation.client_states import ClientStates
from fcit_plugin.federation.messages import to_record
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.scenario import Scenario, Task
from fcit_plugin.serving.fixed_weights import fixed_weights
from fcit_plugin.serving.join import join_folders
from fcit_plugin.serving.trained import TrainedRun
from fcit_plugin.state.checkpoints import PROGRESS, RECIPE, Checkpoints
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.inspection import inspect
from fcit_plugin.state.names import MANIFEST
from fcit_plugin.state.pages import write_page
from fcit_plugin.state.predictions import read_predictions, take_predictions, write_predictions
from fcit_plugin.state.progress import Progress
from fcit_plugin.state.sealed import CHECKSUMS, _files, _render, _sum, seal
from fcit_plugin.state.server_state import ServerState, save_state

LOG, COMMIT = "trainer_log.jsonl", "checkpoints/round-0002"

SCENARIO = Scenario("custom", (Task("color", ("color",)), Task("letter", ("letter",))), ((0,), (1,)))


def _state() -> ServerState:
    factors = {"base_model.model.l.lora_A.weight": torch.ones(2, 3), "base_model.model.l.lora_B.weight": torch.ones(4, 2)}
    projector = {"projector.weight": torch.ones(1)}
    return ServerState(
        SubspaceTokens(np.ones((2, 2), np.float32), np.ones(2, np.int64)),
        projector,
        [factors] * 2,
        stage=2,
        tasks=[{"color": 1}, {"letter": 2}],
        rules={"0/m": np.ones(1, np.float32)},
        method_state={"seen": torch.ones(1)},
        projectors=[projector] * 2,
        own_cosines={1: own(1)},
    )


_ADAPTER = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["l"]}
_ADAPTER |= {"lora_dropout": 0.1, "use_rslora": False}
_RUN = {
    "plugin_version": "0.2.0",
    "base_model": "tiny",
    "template": "llama3",
    "base_fingerprint": "ab",
    "stages": [["color"], ["letter"]],
    "rounds": [1, 1],
    "scenario": SCENARIO.to_dict(),
    "activation": "softmax",
    "temperature": 0.05,
    "seed": 42,
    "method": "disco",
    "similarity_threshold": 0.7,
    "identity_source": "text",
    "identity_encoder": "base",
    "identity_pooling": "mean",
    "identity_center": True,
    "identity_turns": "first",
    "signature": "a" * 64,
}
LINES = [{"current_steps": i, "stage": i, "loss": 0.5} for i in range(2)]


def _progress() -> Progress:
    row = {"stage": 0, "round": 0, "client": 1, "subspace": 0}
    progress = Progress(
        step=2,
        zero_shot={"color": 10.0},
        assignments=[{**row, "cosine": 0.5, "task": "color"}, {**row, "stage": 1, "cosine": None, "task": "letter"}],
        asked=[{"stage": 0, "client": 1, "task": "color"}],
        dropped=[{"stage": 0, "round": 0, "client": 2, "reason": "it failed"}],
        idle=[{"stage": 1, "round": 0, "client": 2, "reason": "it has one record"}],
        product_errors=[{"stage": 0, "round": 0, "subspace": 0, "error": 0.1}],
        partition=[{"task": "color", "dataset": "color", "records": [3, 4]}],
        left_out={"color": 1},
        labels={"color": ["red"], "letter": None},
        likelihood_untuned={"color": 3.0},
        recipes=[
            {"stage": 0, "arguments": {"learning_rate": 0.1, "num_processes": 1}, "data": {"base_model_fingerprint": "ab"}}
        ],
    )
    progress.add_scores(0, {"color": 50.0}, {"color": 60.0}, {"color": {"substring": 5.0}}, {"color": 0.5})
    progress.add_scores(1, {"color": 40.0, "letter": 30.0}, {"color": None, "letter": 30.0}, {}, {"color": 0.5, "letter": 1.0})
    return progress


def write_run(folder: Path) -> None:
    save_state(_state(), folder, _ADAPTER, _RUN)
    (folder / PROGRESS).write_text(json.dumps(_progress().to_dict()))
    (folder / LOG).write_text("".join(f"{json.dumps(line)}\n" for line in LINES))
    keys = {"num_processes": 1, "gradient_accumulation_steps": 2, "learning_rate": 0.1, "lora_target": ["l"]}
    (folder / RECIPE).write_text(
        json.dumps({"keys": keys, "data": {"base_model_fingerprint": None, "datasets.color.train": "3"}})
    )


def _prediction(**changes: Any) -> dict[str, Any]:
    row = {"prompt": "name red", "predict": "red", "label": "red", "dataset": "color", "record": 0, "restricted": False}
    return {**row, "subspace": 0, "weights": [0.75, 0.25], "score": 100.0, **changes}


def write_answers(folder: Path) -> None:
    untuned = _prediction(subspace=None, weights=[], score=None)
    for stage, rows in ((None, [untuned]), (0, [_prediction(), _prediction(restricted=True)]), (1, [_prediction()])):
        write_predictions(folder, stage, rows)


def _answers(folder: Path) -> Iterator[str]:
    for rows in read_predictions(folder).values():
        [(len(row["prompt"] + row["predict"] + row["label"]), sum(row["weights"]), row["score"]) for row in rows]
    take_predictions(folder / "other", folder, 1)
    return iter(())


def _paged(folder: Path) -> None:
    write_answers(folder)
    (folder / REPORT_JSON).write_text(json.dumps(two_stages().to_dict()))
    lines = [line | {"client": 1, "round": 0} for line in LINES]
    (folder / LOG).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def _page_made(folder: Path) -> Iterator[str]:
    written = write_page({"run": folder}, folder / "out").read_text()
    assert written.count("<script") == 1 and "\x1b" not in written
    return iter(())


def _use(held: StateFolder) -> Iterator[str]:
    """All that is done with a state folder in this process."""
    held.check()
    state, progress = held.load(), held.progress()
    scenario = held.finished_scenario()
    fixed_weights(None, state.tasks, state.tokens.counts, {task.name: task.datasets for task in scenario.tasks})
    json.dumps([held.adapter_config, held.manifest, progress.to_dict()])
    trained = TrainedRun.read(held.path)
    trained._lora_config()
    trained.projector([0.5] * len(state.subspaces))
    return iter(())


def _earlier(folder: Path) -> Iterator[str]:
    earlier = Earlier.read(folder)
    processes = SimpleNamespace(is_main=True, from_main=lambda value: value)
    _, progress, log = earlier.load(processes)
    [(line["current_steps"], line["loss"], line["stage"]) for line in log]
    assert len(earlier.digest) == 16
    before = progress.recipes[-1]["arguments"] if progress.recipes else {}
    numbers(before, ())
    {key: value for recipe in progress.recipes for key, value in recipe["data"].items()}
    return _use(StateFolder(folder))


def _commit(folder: Path) -> None:
    def write(target: Path) -> None:
        write_run(target)
        states = ClientStates()
        states.keep(3, RecordDict({"kept": to_record({"a": torch.ones(2)})}))
        states.write(target)

    seal(folder / COMMIT, write)


def mend_sums(folder: Path) -> None:
    """Sums that fit, as somebody who forges a folder makes them."""
    for sums in [*folder.rglob(CHECKSUMS)]:
        sealed = sums.parent
        sums.unlink()
        sums.write_bytes(_render({name: _sum(sealed / name) for name in _files(sealed)}))


def _resumed(folder: Path) -> Iterator[str]:
    commit = folder / COMMIT
    for wrong in Checkpoints(folder).newest_good().bad.values():
        return iter(wrong)
    start = _start(commit)
    processes = SimpleNamespace(is_main=True, from_main=lambda value: value)
    _, progress, log = start.load(processes)
    [(line["current_steps"], line["loss"], line["stage"]) for line in log]
    numbers(start.recipe["keys"], ())
    clients = start.client_states(processes)
    for record in clients.of(3).array_records.values():
        [array.data for array in record.values()]
    progress.step += 1
    return iter(())


def _inspected(folder: Path) -> Iterable[str]:
    found = inspect(folder)
    assert all("\x1b" not in line for line in found.lines)
    Checkpoints(folder).newest_good()
    return found.corrupt


def _finished(folder: Path) -> None:
    _commit(folder)
    for path in (folder / COMMIT).iterdir():
        if path.name != CHECKSUMS:
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)


def _two_runs(folder: Path) -> None:
    write_run(folder / "one")
    write_run(folder / "two")


def _joined(folder: Path) -> Iterator[str]:
    out = folder / "out"
    join_folders(folder / "one", folder / "two", out)
    StateFolder(out).load()
    return iter(())


READERS = [
    Reader(
        "a run's page",
        _paged,
        _page_made,
        share=1,
        free=("*:arguments.*",),
        optional=(LOG, "predictions/*"),
        takes=((LOG, "empty"), *((f"predictions/{name}.jsonl", "empty") for name in ("untuned", "stage-0", "stage-1"))),
    ),
    Reader(
        "the answers of a run",
        write_answers,
        _answers,
        share=2,
        optional=("*",),
        takes=(
            ("predictions/stage-0.jsonl", "empty"),
            ("predictions/stage-1.jsonl", "empty"),
            ("predictions/untuned.jsonl", "empty"),
        ),
    ),
    Reader("a run's folder", write_run, _earlier, optional=(LOG,), unread=(RECIPE,), takes=((LOG, "empty"),)),
    Reader(
        "a commit",
        _commit,
        _resumed,
        free=("*/recipe.json:keys.l*",),
        mend=mend_sums,
        whole=("*/checksums.json",),
        takes=((f"{COMMIT}/{LOG}", "empty"),),
    ),
    Reader("a commit by its sums", _commit, _inspected, share=2, whole=("*",)),
    Reader(
        "a finished run",
        _finished,
        _inspected,
        share=2,
        whole=("*",),
        optional=(MANIFEST, PROGRESS, LOG, RECIPE, f"{CLIENTS}/*"),
    ),
    Reader(
        "two runs to join",
        _two_runs,
        _joined,
        share=2,
        names={"one/*": "/one", "two/*": "/two"},
        unread=(f"*/{LOG}", f"*/{RECIPE}", f"*/{PROGRESS}"),
    ),
]
