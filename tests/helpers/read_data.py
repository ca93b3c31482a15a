"""Readers of datasets."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import clones
from PIL import Image
from reader import Reader
from tables import Table

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.fcit_benchmark import fedllm, text15
from fcit_plugin.fcit_benchmark.benchmarks import choose
from fcit_plugin.fcit_benchmark.layout import LAYOUT
from fcit_plugin.fcit_benchmark.verify import verify
from fcit_plugin.scenario.partition import Partition, PartitionOptions
from fcit_plugin.scenario.released_partition import released_folder
from fcit_plugin.scenario.settings import get_scenario


def _info(folder: Path) -> None:
    entry = {"file_name": "color.json", "formatting": "alpaca", "ranking": False, "columns": {"prompt": "q", "response": "a"}}
    entry |= {"split": "train", "num_samples": None, "fcit_metric": "exact_match", "fcit_also": ["substring"]}
    talk = {"file_name": "color.json", "formatting": "sharegpt", "tags": {"role_tag": "from"}, "columns": {"messages": "turns"}}
    (folder / "dataset_info.json").write_text(json.dumps({"color": entry, "color_test": talk}))
    (folder / "color.json").write_text(json.dumps([{"q": "a", "a": "b"}]))


def _info_read(folder: Path) -> Iterator[str]:
    catalogue = Catalogue(str(folder))
    catalogue.check(["color"], with_test=True)
    catalogue.check_metrics(["color"])
    return iter(())


_N = 3


def _source() -> Table:
    def record(name: str, number: int) -> dict[str, Any]:
        turns = [{"from": "human", "value": f"What is {number}?"}, {"from": "gpt", "value": "a"}]
        return {"image": f"{name}/{number}.png", "conversations": turns}

    names = get_scenario("task_hom").all_datasets()
    return Table({name: [record(name, number) for number in range(_N)] for name in names})


def _released(folder: Path) -> None:
    name = get_scenario("task_hom").tasks[0].datasets[0]
    target = folder / "partitioned_data" / "Task-related" / "seq" / "1.0" / "Task1"
    target.mkdir(parents=True)
    for client, record in enumerate(_source().data[name]):
        (target / f"client_{client}.json").write_text(json.dumps([record]))


def _released_read(folder: Path) -> Iterator[str]:
    options = PartitionOptions(_N, "released", 1.0, released=released_folder(folder, "task_hom", 1.0))
    Partition(get_scenario("task_hom"), _source(), options, seed=0).parts(0)
    return iter(())


_LAYOUTS = ("fcit_flickr30k", "fcit_grounding")


def _benchmark(folder: Path) -> None:
    for key in _LAYOUTS:
        layout = LAYOUT[key]
        for path, test in ((layout.train_path, False), (layout.test_path, True)):
            image = f"{layout.test_image_folder if test else layout.image_folder}/1.png"
            place = folder / "datasets" / image
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(place)
            turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a"}]
            record: dict[str, Any] = {"image": image, "conversations": turns}
            if test:
                record = {
                    "question_id": 1,
                    "image": image,
                    "text": "What?",
                    "answer": "a",
                    "answer_bbox": "[0.1, 0.2, 0.5, 0.9]",
                }
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(json.dumps([record]))
    captions = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [{"image_id": 1, "caption": "A cat."}]}
    (folder / LAYOUT["fcit_flickr30k"].references).write_text(json.dumps(captions))


def _verified(folder: Path) -> Iterable[str]:
    report = verify(folder, [LAYOUT[key] for key in _LAYOUTS], "all")
    json.dumps(report.as_json())
    return [str(defect) for defect in report.defects]


_TEXT15 = choose("text15_yelp,text15_copa,text15_mnli", "text15")


def _o_lora(folder: Path) -> None:
    clones.o_lora(folder / "clone")


def _o_lora_read(folder: Path) -> Iterator[str]:
    for _ in text15.read(folder / "clone", _TEXT15, []):
        pass
    return iter(())


def _fedllm(folder: Path) -> None:
    clones.fedllm(folder / "clone", {"ann": 2, "ben": 1})


def _fedllm_read(folder: Path) -> Iterator[str]:
    for name, clients, _ in fedllm.read(folder / "clone", fedllm.FEDLLM):
        for record in chain(*clients.values()):
            fedllm.FEDLLM[name].kind.row(record)
    return iter(())


Image.init()  # what it imports when it meets something that is no image

READERS = [
    Reader("dataset_info.json", _info, _info_read, spoil=("dataset_info.json",), own=("*",)),
    Reader(
        "a released partition",
        _released,
        _released_read,
        own=("*",),
        names={f"*client_{i}.json": f"client {i}" for i in range(_N)},
    ),
    Reader(
        "a clone of O-LoRA",
        _o_lora,
        _o_lora_read,
        spoil=("clone/*/yelp/*", "clone/*/COPA/*", "clone/*/MNLI/*", "clone/configs/*"),
        own=("*",),
        free=("*.instruction", "*train.json:*.sentence", "*test.json:*.sentence"),
    ),
    Reader(
        "a clone of FedLLM-Bench",
        _fedllm,
        _fedllm_read,
        own=("*",),
    ),
    Reader(
        "the benchmark",
        _benchmark,
        _verified,
        own=("*",),
        whole=("*/val_coco_type.json",),
        free=("*.answer", "*.question_id", "*val_brief.json:*.answer_bbox"),
    ),
]
