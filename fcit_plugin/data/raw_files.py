"""Training records as they stand in their files, read without a model, a tokenizer or LLaMA-Factory.

LLaMA-Factory's aligned records lose the columns that it does not know; here they are all there, in the same order.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import FcitError
from ..files import read_json, read_json_lines
from .catalogue import ELSEWHERE, Catalogue

#: Keys by which an entry of ``dataset_info.json`` has its records elsewhere, or others than those of its file.
_NOT_THE_FILES = (*ELSEWHERE, "num_samples")

#: Files that the package ``datasets`` reads for us, by their ending; LLaMA-Factory reads them with it too.
_TABLES = {".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}


class TrainFiles:
    """Implements :class:`fcit_plugin.scenario.Source` on the files that ``dataset_info.json`` names.

    Args:
        catalogue: The recipe's datasets.
        max_samples: The recipe's ``max_samples``: LLaMA-Factory takes the first ones.
        seed: The recipe's seed.
    """

    def __init__(self, catalogue: Catalogue, max_samples: int | None = None, seed: int = 42) -> None:
        self.catalogue = catalogue
        self.max_samples = max_samples
        self.seed = seed
        self._last: tuple[str, Sequence[dict[str, Any]]] = ("", ())
        self._names: dict[tuple[str, str], list[Any]] = {}

    def count(self, dataset: str) -> int:
        """See :class:`fcit_plugin.scenario.Source`."""
        return len(self._records(dataset))

    def labels(self, dataset: str) -> list[str]:
        """See :class:`fcit_plugin.scenario.Source`: the last answer of each record, as LLaMA-Factory finds it."""
        entry = self.catalogue.entry(dataset)
        columns = entry.get("columns", {"response": "output", "messages": "conversations"})
        if entry.get("formatting", "alpaca") == "alpaca":
            return self.column(dataset, columns.get("response"))
        content = entry.get("tags", {"content_tag": "value"}).get("content_tag")
        return [turns[-1][content] for turns in self.column(dataset, columns.get("messages"))]

    def column(self, dataset: str, name: str) -> list[Any]:
        """See :class:`fcit_plugin.scenario.Source`.

        Raises:
            FcitError: The dataset is not in a file, or a record has no such column.
        """
        if (dataset, name) in self._names:
            return self._names[dataset, name]
        values = []
        for index, record in enumerate(self._records(dataset)):
            if name not in record:
                raise FcitError(
                    f"Record {index} of the dataset {dataset} ({self._path(dataset)}) has no column {name!r};"
                    f" it has {', '.join(record)}."
                )
            values.append(record[name])
        if all(isinstance(value, (str, int)) for value in values):  # asked for once per task; whole turns are not kept
            self._names[dataset, name] = values
        return values

    def _records(self, dataset: str) -> Sequence[dict[str, Any]]:
        if self._last[0] != dataset:
            self._last = (dataset, _read(self._path(dataset)))
        records = self._last[1]
        count = len(records) if self.max_samples is None else min(self.max_samples, len(records))
        rows = self.catalogue.rows(dataset, count, self.seed)
        if rows is None and count == len(records):
            return records
        return [records[index] for index in (range(count) if rows is None else rows.tolist())]

    def _path(self, dataset: str) -> Path:
        entry = self.catalogue.entry(dataset)
        for key in _NOT_THE_FILES:
            if entry.get(key) is not None:
                raise FcitError(
                    f"The dataset {dataset} has `{key}` in dataset_info.json: its records cannot be read one by one;"
                    " write them to a JSON file and name it as `file_name`."
                )
        path = self.catalogue.root(dataset) / entry["file_name"]
        if not path.is_file():
            raise FcitError(f"The dataset {dataset} has no file {path}; fix `file_name`, `dataset_dir` or `fcit_data_dir`.")
        return path


def _read(path: Path) -> Sequence[dict[str, Any]]:
    if path.suffix in _TABLES:
        from datasets import load_dataset

        return load_dataset(_TABLES[path.suffix], data_files=str(path), split="train")
    records = list(read_json_lines(path).values()) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise FcitError(f"{path} must hold a list of records.")
    return records
