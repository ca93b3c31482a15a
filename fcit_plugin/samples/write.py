"""Writes image-question datasets of one's own in the plugin's layout, with the ``dataset_info.json`` that lists them."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import write_json

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Example:
    """One question about one image.

    Attributes:
        source: Identifies the image within its split; two examples may ask about the same one.
        image: The image itself.
        question: What is asked.
        answer: The expected answer.
    """

    source: str
    image: "Image"
    question: str
    answer: str


Split = tuple[list[Example], list[Example]]


def write_all(out: Path, splits: Mapping[str, Split]) -> None:
    """Writes datasets below a folder: ``instructions/<name>/train.json`` and ``test.json``, images under ``datasets/<name>/``.

    Args:
        out: The ``dataset_dir``. What an earlier call wrote there is replaced.
        splits: Training and test examples by the name of the dataset.
    """
    entries: dict[str, dict] = {}
    for name, (train, test) in splits.items():
        entries |= _write(out, name, train, test)
    write_json(out / "dataset_info.json", entries)


def _write(out: Path, name: str, train: list[Example], test: list[Example]) -> dict[str, dict]:
    """Writes one dataset and returns its entries for ``dataset_info.json``.

    Args:
        out: The ``dataset_dir``.
        name: Name of the dataset.
        train: Training examples, stored as conversations.
        test: Test examples, stored as question and answer.
    """
    for part in ("datasets", "instructions"):
        shutil.rmtree(out / part / name, ignore_errors=True)
        (out / part / name).mkdir(parents=True)

    def save(split: str, example: Example) -> str:
        relative = f"{name}/{split}_{example.source}.png"
        example.image.save(out / "datasets" / relative)
        return relative

    conversations = [
        {
            "image": save("train", example),
            "conversations": [
                {"from": "human", "value": f"<image>\n{example.question}"},
                {"from": "gpt", "value": example.answer},
            ],
        }
        for example in train
    ]
    questions = [
        {
            "question_id": f"{name}_{number}",
            "image": save("test", example),
            "text": example.question,
            "answer": example.answer,
        }
        for number, example in enumerate(test)
    ]
    write_json(out / "instructions" / name / "train.json", conversations)
    write_json(out / "instructions" / name / "test.json", questions)
    return {
        name: _entry(name, "train", {"messages": "conversations", "images": "image"}),
        f"{name}_test": _entry(name, "test", {"prompt": "text", "response": "answer", "images": "image"}),
    }


def _entry(name: str, split: str, columns: dict[str, str]) -> dict:
    return {
        "file_name": f"instructions/{name}/{split}.json",
        "formatting": "fcit",
        "columns": columns,
        "fcit_metric": "exact_match",
    }
