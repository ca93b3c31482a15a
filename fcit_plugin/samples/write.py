"""Writes image-question datasets of one's own in the plugin's layout, with the ``dataset_info.json`` that lists them."""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FcitError
from ..files import read_object, write_json

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


def refuse_others(out: Path, entries: Mapping[str, dict[str, Any]], paths: Mapping[str, Iterable[Path]]) -> None:
    """Refuse a folder that holds what another one has written: the same command may write again what it wrote before.

    Args:
        out: The ``dataset_dir``.
        entries: What its ``dataset_info.json`` will say.
        paths: What each of the entries has in the folder, which is replaced.

    Raises:
        FcitError: It has other entries, or files of these names that none of these entries has; the sentence names one.
    """
    listed, known = out / "dataset_info.json", dict[str, Any]()
    remedy = "give another folder (--out), or take that away"
    if os.path.lexists(listed):
        known = read_object(listed, remedy=remedy)
    for name, entry in known.items():
        if entries.get(name) != entry:
            raise FcitError(f"{listed} has an entry `{name}` that is not of this command, which would write over it; {remedy}.")
    for name, places in paths.items():
        for place in places:
            if name not in known and os.path.lexists(place):
                raise FcitError(
                    f"{place} is there, and no entry of {listed} says that it is of this command, which would write over it; "
                    f"{remedy}."
                )


def write_lists(out: Path, entries: Mapping[str, dict[str, Any]], files: Mapping[str, list[dict[str, Any]]]) -> None:
    """Writes datasets that are lists of records, each as ``<name>.json``.

    Args:
        out: The ``dataset_dir``. What an earlier call wrote there is replaced.
        entries: What its ``dataset_info.json`` says.
        files: Records by the name of the entry that has them.

    Raises:
        FcitError: Something of another one is there.
    """
    refuse_others(out, entries, {name: [out / f"{name}.json"] for name in files})
    for name, records in files.items():
        write_json(out / f"{name}.json", records)
    write_json(out / "dataset_info.json", entries)


def check_place(out: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What :func:`write_all` would refuse, before the examples are made.

    Args:
        out: The ``dataset_dir``.
        names: Names of the datasets.

    Returns:
        Their entries.

    Raises:
        FcitError: Something of another one is there.
    """
    names = [*names]
    entries = {key: entry for name in names for key, entry in _entries(name).items()}
    refuse_others(out, entries, {name: _folders(out, name) for name in names})
    return entries


def write_all(out: Path, splits: Mapping[str, Split]) -> None:
    """Writes datasets below a folder: ``instructions/<name>/train.json`` and ``test.json``, images under ``datasets/<name>/``.

    Args:
        out: The ``dataset_dir``. What an earlier call wrote there is replaced.
        splits: Training and test examples by the name of the dataset.

    Raises:
        FcitError: Something of another one is there.
    """
    entries = check_place(out, splits)
    for name, (train, test) in splits.items():
        _write(out, name, train, test)
    write_json(out / "dataset_info.json", entries)


def _folders(out: Path, name: str) -> list[Path]:
    return [out / part / name for part in ("datasets", "instructions")]


def _write(out: Path, name: str, train: list[Example], test: list[Example]) -> None:
    """Writes one dataset.

    Args:
        out: The ``dataset_dir``.
        name: Name of the dataset.
        train: Training examples, stored as conversations.
        test: Test examples, stored as question and answer.
    """
    for folder in _folders(out, name):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

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


def _entries(name: str) -> dict[str, dict[str, Any]]:
    """What ``dataset_info.json`` says of a dataset."""
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
