"""FedLLM-Bench: files with a list of records for each client become datasets with a column that names the client.

Source: rui-ye/FedLLM-Bench 2455679: utils/benchmark_dataset.py (clients), utils/template.py, data_module.py (columns, turns),
training_scripts/ (files, clients). Its pairs go into TRL's ``DPOTrainer`` as they are, so their columns are TRL's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from ..errors import FcitError
from ..files import write_json
from ..folders import whole_folder
from ..schema import Text, Word
from .conversion import REMEDY, Conversion, pick, read_form, require_root

CODE, COMMIT = "https://github.com/rui-ye/FedLLM-Bench", "2455679"
"""The public code that was read."""

CLIENT = "client"
"""The column that ``fcit_partition_column`` is to name."""

TESTS = "evaluation/open_ended/aya_evaluation/test_datasets.json"
"""Fed-Aya's questions with an answer to compare with, by language, in the repository itself."""


class _Single(TypedDict):
    instruction: Text
    response: Text


_Turn = TypedDict("_Turn", {"from": Literal["human", "gpt"], "value": Text})


class _Several(TypedDict):
    conversations: list[_Turn]


class _Pair(TypedDict):
    prompt: Text
    chosen: Text
    rejected: Text


class _Question(TypedDict):
    instruction: Text
    reference: Text


def _of_single(record: Any) -> dict[str, Any]:
    return {"instruction": record["instruction"], "input": "", "output": record["response"]}


def _of_several(record: Any) -> dict[str, Any]:
    """Its turns; without one of the model's at the start and one of the user's at the end, of which nothing can be learned."""
    turns = record["conversations"]
    start = 1 if turns and turns[0]["from"] == "gpt" else 0
    end = len(turns) - (1 if len(turns) > start and turns[-1]["from"] == "human" else 0)
    return {"conversations": turns[start:end]}


def _of_pair(record: Any) -> dict[str, Any]:
    return {"instruction": record["prompt"], "chosen": record["chosen"], "rejected": record["rejected"]}


@dataclass(frozen=True)
class _Kind:
    """How a dataset's file and its records are written there, and what dataset_info.json says of ours."""

    form: Any
    row: Callable[[Any], dict[str, Any]]
    entry: Mapping[str, Any]


_SOME = Field(min_length=1)
_SINGLE = _Kind(Annotated[dict[Word, Annotated[list[_Single], _SOME]], _SOME], _of_single, {})
_SEVERAL = _Kind(
    Annotated[dict[Word, Annotated[list[_Several], _SOME]], _SOME],
    _of_several,
    {"formatting": "sharegpt", "columns": {"messages": "conversations"}},
)
_PAIRS = _Kind(
    Annotated[dict[Word, Annotated[list[_Pair], _SOME]], _SOME],
    _of_pair,
    {"ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}},
)


@dataclass(frozen=True)
class FedDataset:
    """A dataset of FedLLM-Bench.

    Attributes:
        file: Its file in the clone, behind which the download was unpacked.
        clients: How many clients its script names.
        kind: How its records are written.
        tests: It has questions with answers to compare with.
    """

    file: str
    clients: int
    kind: _Kind
    tests: bool = False


FEDLLM: dict[str, FedDataset] = {
    "fedllm_aya": FedDataset("data/Fed-Aya/aya_38c_25k.json", 38, _SINGLE, tests=True),
    "fedllm_chatbot_it": FedDataset("data/Fed-ChatbotIT/chatbotIT_237c_6k.json", 237, _SINGLE),
    "fedllm_wildchat": FedDataset("data/Fed-WildChat/single_turn/wildchat_100c_53k.json", 100, _SINGLE),
    "fedllm_wildchat_turns": FedDataset("data/Fed-WildChat/multi_turn/wildchat_50c.json", 50, _SEVERAL),
    "fedllm_chatbot_pa": FedDataset("data/Fed-ChatbotPA/chatbotPA_747c_10k.json", 747, _PAIRS),
}
"""By the name that it gets in ``dataset_info.json``."""


Read = tuple[str, Mapping[str, list[Any]], list[Any]]
"""A dataset's name, the records of each client as they are written there, and its questions."""


def convert(source: Path, out: Path, names: str | None = None) -> Conversion:
    """Write datasets with a column :data:`CLIENT`, and the ``dataset_info.json`` that lists them; all or nothing.

    A client is called by its dataset and its key in the file, so that those of two datasets are never taken for one.

    Args:
        source: The clone, with the download unpacked as its ``data/``.
        out: Folder to write, new or empty: the ``dataset_dir`` of a recipe.
        names: Datasets, with commas; all for None.

    Raises:
        FcitError: A file is missing or broken, or a client has no records; the sentence names the file and the place in it.
    """
    datasets = pick(names, FEDLLM, "FedLLM-Bench")
    require_root(source, "FedLLM-Bench with its data/")
    with whole_folder(out) as partial:
        done = write(partial, read(source, datasets))
    done.keys = {"dataset_dir": str(out.absolute()), "fcit_partition": "natural", "fcit_partition_column": CLIENT}
    for name, dataset in datasets.items():
        if not dataset.tests:
            done.notes.append(
                f"{name} has no answers to compare with; `val_size: 0.1` keeps a tenth of its records for the test."
            )
    return done


def read(source: Path, datasets: Iterable[str]) -> Iterator[Read]:
    """Datasets of :data:`FEDLLM` as they are written there; errors are those of :func:`convert`.

    Args:
        source: The clone.
        datasets: Their names.
    """
    for name in datasets:
        yield name, read_form(FEDLLM[name].kind.form, source / FEDLLM[name].file), _questions(source, FEDLLM[name])


def write(out: Path, datasets: Iterable[Read]) -> Conversion:
    """Write datasets of :data:`FEDLLM`.

    Args:
        out: Folder.
        datasets: What each of them holds.
    """
    done, entries = Conversion(), dict[str, Any]()
    for name, clients, questions in datasets:
        kind = FEDLLM[name].kind
        rows = [{CLIENT: f"{name} {client}", **kind.row(r)} for client, records in clients.items() for r in records]
        tests = [{"instruction": q["instruction"], "input": "", "output": q["reference"]} for q in questions]
        for key, found, entry in ((name, rows, kind.entry), (f"{name}_test", tests, {})):
            if found:
                write_json(out / f"{key}.json", found)
                entries[key] = {"file_name": f"{key}.json", **entry, "fcit_metric": "rouge_l"}
                done.written[f"{key}.json"] = len(found)
    write_json(out / "dataset_info.json", entries)
    return done


def _questions(source: Path, dataset: FedDataset) -> list[Any]:
    if not dataset.tests:
        return []
    by_language: dict[str, list[_Question]] = read_form(dict[Word, list[_Question]], source / TESTS)
    found = [question for questions in by_language.values() for question in questions]
    if not found:
        raise FcitError(f"{source / TESTS} has no questions; {REMEDY}.")
    return found
