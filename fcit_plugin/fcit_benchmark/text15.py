"""The sequence of 15 text tasks: prompts made from sentences, instructions and labels as O-LoRA's loader makes them.

Source: cmnfriend/O-LoRA 07117e1: src/uie_dataset_lora.py, src/uie_collator.py, scripts/long.sh. The texts of its instructions
are read from the user's own clone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from ..errors import FcitError
from ..files import write_json
from ..folders import whole_folder
from ..schema import Text, Word
from .conversion import REMEDY, Conversion, pick, read_form, require_root
from .layout import DatasetLayout
from .others import TEXT15

DATA, INSTRUCTIONS = "CL_Benchmark", "configs/instruction_config.json"
"""Folder of the datasets in the clone, and the file with an instruction for each kind of task."""

#: Kind of task -> its datasets, where the two are not called alike.
_KINDS = {"SC": ("yelp", "amazon", "IMDB", "SST-2"), "TC": ("dbpedia", "agnews", "yahoo"), "NLI": ("MNLI", "CB", "RTE")}
_KIND_OF = {folder: kind for kind, folders in _KINDS.items() for folder in folders}

#: The kind whose sentences ask by themselves.
_ASKS_ITSELF = "COPA"

#: Label of test records, of MNLI, on whose answer people did not agree; there it is scored as any other.
NO_AGREEMENT = "-"

_NAMES = {layout.key: layout for layout in TEXT15}


class _Record(TypedDict):
    sentence: Text
    label: Word


class _Instruction(TypedDict):
    instruction_type: Word
    instruction: Text


_Records = Annotated[list[_Record], Field(min_length=1)]
_Labels = Annotated[list[Word], Field(min_length=1, max_length=1000)]


def kind_of(layout: DatasetLayout) -> str:
    """The kind of task that a dataset is, which is the folder that it lies in in the clone."""
    return _KIND_OF.get(layout.folder, layout.folder)


def convert(source: Path, out: Path, names: str | None = None) -> Conversion:
    """Write train and test files in LLaMA-Factory's alpaca form; all of them or nothing.

    Args:
        source: The clone of O-LoRA.
        out: Folder to write, new or empty: the ``fcit_data_dir`` of a recipe.
        names: Datasets, with commas; all for None.

    Raises:
        FcitError: A file is missing or broken, or a record has no sentence or an unknown label; the sentence names the file
            and the record.
    """
    layouts = pick(names, _NAMES, "Text-15")
    require_root(source, "O-LoRA")
    done = Conversion(keys={"fcit_data_dir": str(out.absolute())})
    with whole_folder(out) as partial:
        for path, rows in read(source, layouts.values(), done.notes):
            write_json(partial / path, rows)
            done.written[path] = len(rows)
    return done


def read(source: Path, layouts: Iterable[DatasetLayout], notes: list[str]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The files that a conversion writes, each with its records; errors are those of :func:`convert`.

    Args:
        source: The clone of O-LoRA.
        layouts: The datasets.
        notes: Gets a sentence on what is not as one would think.
    """
    instructions = _instructions(source)
    for layout in layouts:
        head = _head(source, layout, instructions)
        yield layout.train_path, _rows(source / _place(layout, "train.json"), head, False, notes)
        yield layout.test_path, _rows(source / _place(layout, "test.json"), head, True, notes)


def _place(layout: DatasetLayout, file: str) -> str:
    return f"{DATA}/{kind_of(layout)}/{layout.folder}/{file}"


def _instructions(source: Path) -> dict[str, list[_Instruction]]:
    found: dict[str, list[_Instruction]] = read_form(dict[Word, list[_Instruction]], source / INSTRUCTIONS)
    return found


@dataclass(frozen=True)
class _Head:
    """What stands before the sentence of a dataset's records, and their labels."""

    text: str
    labels: list[str]
    labels_file: Path


def _head(source: Path, layout: DatasetLayout, instructions: dict[str, list[_Instruction]]) -> _Head:
    kind = kind_of(layout)
    file = source / _place(layout, "labels.json")
    labels = read_form(_Labels, file)
    names = f"Task:{kind}\nDataset:{layout.folder}\n"
    if kind == _ASKS_ITSELF:
        return _Head(names, labels, file)
    asked = [one["instruction"] for one in instructions.get(kind, []) if one["instruction_type"] == "zero-shot"]
    if not asked:
        raise FcitError(f"{source / INSTRUCTIONS} has no instruction of the type zero-shot for `{kind}`; {REMEDY}.")
    return _Head(f"{names}{asked[0]}Option: {', '.join(labels)} \n", labels, file)


def _rows(path: Path, head: _Head, is_test: bool, notes: list[str]) -> list[dict[str, str]]:
    records: list[_Record] = read_form(_Records, path)
    undecided = 0
    for number, record in enumerate(records):
        if not record["sentence"].strip():
            raise FcitError(f"{path}, record {number}: its `sentence` is empty; {REMEDY}.")
        if record["label"] == NO_AGREEMENT and is_test:
            undecided += 1
        elif record["label"] not in head.labels:
            label, known = record["label"][:100], ", ".join(head.labels)[:300]
            raise FcitError(
                f"{path}, record {number}: its `label` {label!r} is none of those in {head.labels_file} ({known}); {REMEDY}."
            )
    if undecided:
        notes.append(
            f"{path}: {undecided:,} of {len(records):,} records have the label `{NO_AGREEMENT}`, for people did not agree; "
            "they stay, as the benchmark counts them."
        )
    return [{"instruction": f"{head.text}{r['sentence']}\nAnswer:", "input": "", "output": r["label"]} for r in records]
