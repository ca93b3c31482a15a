"""Training records as they stand in their files, read without a model, a tokenizer or LLaMA-Factory.

LLaMA-Factory's aligned records lose the columns that it does not know; here they are all there, in the same order.
"""

from functools import cached_property
from typing import Any

from datasets import Dataset

from ..errors import FcitError
from .catalogue import Catalogue
from .diagnosis import diagnosed, place_of, refusal
from .forms import Form, Use, judge
from .left_out import LeftOut
from .raw_records import files_of, plain_records, read_raw


class TrainFiles:
    """Implements :class:`fcit_plugin.scenario.Source` on the files that ``dataset_info.json`` names.

    It has the records that a run trains on: those that LLaMA-Factory leaves out are not among them.

    Args:
        catalogue: The recipe's datasets.
        max_samples: The recipe's ``max_samples``: LLaMA-Factory takes the first ones.
        seed: The recipe's seed.
        use: What the records are for.
        strict: A record that LLaMA-Factory leaves out is refused (``fcit_strict_records``).
    """

    def __init__(
        self,
        catalogue: Catalogue,
        max_samples: int | None = None,
        seed: int = 42,
        use: Use = "sft",
        strict: bool = False,
    ) -> None:
        self.catalogue = catalogue
        self.max_samples = max_samples
        self.seed = seed
        self.use = use
        self.strict = strict
        self._files: dict[str, _File] = {}

    def count(self, dataset: str) -> int:
        """See :class:`fcit_plugin.scenario.Source`."""
        return len(self._file(dataset).answers)

    def labels(self, dataset: str) -> list[str]:
        """See :class:`fcit_plugin.scenario.Source`: the answer of each record, as LLaMA-Factory finds it.

        Raises:
            FcitError: Another package's converter reads the records, which cannot be known here.
        """
        form = Form.of(self.catalogue.entry(dataset))
        if not form.is_known:
            raise FcitError(
                f"The dataset {dataset} has `formatting: {form.formatting}`, whose answers a run alone can read; take another "
                "`fcit_partition` than label."
            )
        return [answer for _, answer in self._file(dataset).answers]

    def column(self, dataset: str, name: str) -> list[Any]:
        """See :class:`fcit_plugin.scenario.Source`.

        Raises:
            FcitError: The dataset is not in a file, or has no such column.
        """
        values = self.raw_column(dataset, name)
        return [values[index] for index, _ in self._file(dataset).answers]

    def raw_column(self, dataset: str, name: str) -> list[Any]:
        """The same of all records, also of those that are left out."""
        return self._file(dataset).column(name)

    def _file(self, dataset: str) -> "_File":
        if dataset not in self._files:
            self._files[dataset] = _File(self, dataset)
        return self._files[dataset]


class _File:
    """The records of one dataset.

    Args:
        source: Whose it is.
        name: The dataset.
    """

    def __init__(self, source: TrainFiles, name: str) -> None:
        self.source = source
        self.name = name
        self._columns: dict[str, list[Any]] = {}

    @cached_property
    def rows(self) -> Dataset:
        """All records."""
        source, entry = self.source, self.source.catalogue.entry(self.name)
        files = files_of(source.catalogue, self.name)
        with diagnosed(self.name, source.catalogue, source.use):
            rows = read_raw(files, entry.get("split"), source.catalogue.cache_dir)
        draws = entry.get("num_samples") is not None  # from all
        count = len(rows) if source.max_samples is None or draws else min(source.max_samples, len(rows))
        return rows.select(range(count))

    @cached_property
    def answers(self) -> list[tuple[int, str]]:
        """The index of each record that is trained on, and its answer."""
        source, found, left_out = self.source, list[tuple[int, str]](), dict[int, str]()
        form = Form.of(source.catalogue.entry(self.name))
        part = source.catalogue.rows(self.name, len(self.rows), source.seed, source.max_samples)
        numbers = range(len(self.rows)) if part is None else part.tolist()
        with diagnosed(self.name, source.catalogue, source.use):
            for i, record in zip(numbers, plain_records(self.rows.select(numbers)), strict=True):
                verdict = judge(record, form, source.use)
                if verdict.broken is not None:
                    raise refusal(self.name, source.catalogue, i, verdict.broken)
                if verdict.left_out is not None:
                    left_out[i] = verdict.left_out
                else:
                    found.append((i, verdict.answer or ""))
        LeftOut(self.name, len({*numbers}), left_out).tell(source.catalogue, source.strict)
        return found

    def column(self, name: str) -> list[Any]:
        """One column of all records."""
        if name in self._columns:
            return self._columns[name]
        if name not in self.rows.column_names:
            file, record = place_of(self.source.catalogue, self.name, 0)
            raise FcitError(
                f"Record {record} of the dataset {self.name} ({file}) has no column {name!r};"
                f" it has {', '.join(self.rows.column_names)}."
            )
        values = [record[name] for record in plain_records(self.rows, [name])]
        if all(isinstance(value, (str, int)) for value in values):  # asked for once per task; whole turns are not kept
            self._columns[name] = values
        return values
