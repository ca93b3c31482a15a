"""Which datasets there are, ours and the user's: their entries in ``dataset_info.json``, their folders, their checks."""

import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from typing_extensions import TypedDict

from ..arguments import FcitArguments
from ..errors import FcitError, closest, nearest
from ..fcit_benchmark.benchmarks import BENCHMARKS, benchmark_of
from ..fcit_benchmark.layout import IMAGES
from ..files import read_object
from ..schema import Count, PathName, Word, checked
from ..shipped import shipped
from .root import benchmark_root, is_on_hub
from .scoring import Scoring, scoring

#: Keys by which an entry of ``dataset_info.json`` has its records elsewhere than in a file.
ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")

#: Suffix of the name of a dataset's test records.
TEST = "_test"


class _Entry(TypedDict, total=False):
    """What LLaMA-Factory and we read of an entry."""

    file_name: PathName
    formatting: Word
    ranking: bool
    columns: dict[Word, Word | None]
    tags: dict[Word, Word | None]
    split: Word | None
    subset: Word | None
    folder: Word | None
    num_samples: Count | None
    hf_hub_url: Word
    ms_hub_url: Word
    om_hub_url: Word
    script_url: Word
    cloud_file_name: Word
    fcit_metric: Word
    fcit_also: list[Word]
    fcit_references: PathName
    fcit_images: PathName


@cache
def own_datasets() -> dict[str, dict[str, Any]]:
    """The entries of our own ``dataset_info.json``, by name."""
    return read_object(shipped("dataset_info") / "dataset_info.json")


def users_datasets(dataset_dir: str | dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The entries of the user's own ``dataset_info.json``, which go before ours; none if there is no such file.

    Args:
        dataset_dir: The file's folder, or, as LLaMA-Factory takes it too, the entries themselves.

    Raises:
        FcitError: The file is not JSON object of objects, or lies on a hub.
    """
    if isinstance(dataset_dir, dict):
        return dataset_dir
    if dataset_dir == "ONLINE" or dataset_dir.startswith("REMOTE:"):
        raise FcitError(
            f"`dataset_dir` is {dataset_dir!r}, with which LLaMA-Factory asks a hub; here the list of datasets lies on this "
            "machine: put a dataset_info.json into a folder, whose entries may name a hub (`hf_hub_url`), and name that."
        )
    path = Path(dataset_dir) / "dataset_info.json"
    if not os.path.lexists(path):
        return {}
    entries = read_object(path, remedy="fix it")
    return checked(dict[Word, dict[Word, Any]], entries, str(path), "fix it")


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The datasets that a recipe may name, the plugin's and the user's, whose ``dataset_info.json`` is read once.

    Attributes:
        dataset_dir: The recipe's ``dataset_dir``: folder of the user's ``dataset_info.json``, or its entries.
        data_root: The recipe's ``fcit_data_dir``, see :func:`fcit_plugin.data.root.benchmark_root`.
        media_dir: The recipe's ``media_dir``: folder of the images of the user's datasets.
        caption_metric: The recipe's ``fcit_caption_metric``.
        held_out: The recipe's ``val_size``: the part, or from 1 on the number, of a dataset's records that become its test
            records, where it has none.
        tests: By dataset the entry of its test records, where the recipe's ``eval_dataset`` names it.
    """

    dataset_dir: str | dict[str, dict[str, Any]]
    data_root: str | None = None
    media_dir: str | None = None
    caption_metric: str = FcitArguments.fcit_caption_metric
    held_out: float = 0.0
    tests: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, data_args, args: FcitArguments, evaluated: Sequence[str] = ()) -> "Catalogue":
        """The catalogue of a recipe.

        Args:
            data_args: LLaMA-Factory's data arguments.
            args: Ours.
            evaluated: The datasets whose test records ``eval_dataset`` names, in its order.

        Raises:
            FcitError: It names others than these need.
        """
        return cls(
            data_args.dataset_dir,
            args.fcit_data_dir,
            data_args.media_dir,
            args.fcit_caption_metric,
            data_args.val_size,
            test_entries(evaluated, data_args.eval_dataset) if evaluated else {},
        )

    @cached_property
    def _users(self) -> dict[str, dict[str, Any]]:
        return users_datasets(self.dataset_dir)

    def __contains__(self, name: str) -> bool:
        return self._has_entry(self.entry_name(name))

    def _has_entry(self, name: str) -> bool:
        return name in self._users or name in own_datasets()

    def entry_name(self, name: str) -> str:
        """The name of the entry that a dataset's records, or its test records, are in.

        Args:
            name: The dataset; its test records with :data:`TEST` behind it.
        """
        dataset = name.removesuffix(TEST)
        if name != dataset and dataset in self.tests:
            return self.tests[dataset]
        return dataset if self._is_split(dataset) else name

    def _is_split(self, dataset: str) -> bool:
        """Whether some of a dataset's records are its test records (``val_size``)."""
        needs = self.held_out > 0 and dataset not in self.tests and not self._has_entry(dataset + TEST)
        return needs and self._has_entry(dataset)

    def rows(self, name: str, count: int, seed: int) -> np.ndarray | None:
        """Which records of its entry a dataset has, where its training and its test records have one entry (``val_size``).

        Args:
            name: The dataset, or the name of its test records.
            count: Records of the entry.
            seed: The recipe's seed.

        Returns:
            Indices, int64, ascending; None for all.

        Raises:
            FcitError: None would be left on one side.
        """
        dataset = name.removesuffix(TEST)
        if not self._is_split(dataset):
            return None
        size = round(self.held_out) if self.held_out >= 1 else math.ceil(self.held_out * count)
        if size >= count:
            raise FcitError(
                f"`val_size: {self.held_out:g}` leaves nothing to train on of the dataset {dataset}, which has {count} "
                "records; lower it."
            )
        order = np.random.default_rng(seed).permutation(count)
        return np.sort(order[:size] if name != dataset else order[size:])

    def is_users(self, name: str) -> bool:
        """Whether the dataset is the user's, not the benchmark's."""
        return self.entry_name(name) in self._users

    def entry(self, name: str) -> dict[str, Any]:
        """The ``dataset_info.json`` entry of a dataset.

        Raises:
            FcitError: There is none; the sentence names the nearest known dataset.
        """
        known, name = {**own_datasets(), **self._users}, self.entry_name(name)
        if name in known:
            return cast(
                "dict[str, Any]",
                checked(_Entry, cast("Any", known[name]), f"The dataset {name} in dataset_info.json", "fix it"),
            )
        users = "in the entries given as `dataset_dir`"
        if not isinstance(self.dataset_dir, dict):
            path = Path(self.dataset_dir) / "dataset_info.json"
            users = f"in {path}" if path.is_file() else f"is there a {path} (`dataset_dir`)"
        raise FcitError(
            f"Unknown dataset `{name}`: it is neither one of the plugin's nor {users}; the nearest known one is "
            f"`{closest(name, known)}`."
        )

    @property
    def benchmark(self) -> Path:
        """Root of the FCIT benchmark."""
        return benchmark_root(self.data_root)

    def root(self, name: str) -> Path:
        """The folder that paths in a dataset's entry are relative to: the user's, or the root of the benchmark.

        Raises:
            FcitError: It is fetched from a hub, which has other datasets.
        """
        if not self.is_users(name):
            of = benchmark_of(name)
            if is_on_hub(self.data_root) and of is not None and of is not BENCHMARKS["fcit"]:
                raise FcitError(
                    f"`fcit_data_dir: hub` (or FCIT_DATA_DIR) fetches the FCIT benchmark, and the dataset {name} is of "
                    f"{of.title}; {of.datasets[0].how_to_get}, and name the folder that you put it into."
                )
            return self.benchmark
        assert not isinstance(self.dataset_dir, dict)  # LLaMA-Factory, too, reads no files without a folder
        return Path(self.dataset_dir)

    def media_root(self, name: str) -> str | None:
        """The folder that the images of a dataset are in: the user's ``media_dir``, or the benchmark's."""
        return self.media_dir if self.is_users(name) else str(_images(self.benchmark, self.entry(name)))

    def metrics(self, name: str) -> Scoring:
        """By which metrics answers are scored; the entry of the test records goes before that of the training records.

        Raises:
            FcitError: A metric is unknown; the sentence names the dataset and the nearest metric.
        """
        trained = self.entry(name) if name in self else {}  # it may have been long ago
        return scoring(name, {**trained, **self.entry(name + TEST)}, self.caption_metric)

    def check(self, names: Iterable[str], with_test: bool, local_stage: str = "sft") -> None:
        """Refuse datasets that cannot be read, as far as their entries tell, before anything is loaded.

        Args:
            names: The datasets.
            with_test: Their test records are read as well.
            local_stage: What trains on them: sft, dpo or kto.

        Raises:
            FcitError: A dataset, or its test records, are in no ``dataset_info.json``, or their entry has no use.
        """
        for name in names:
            self._check_entry(name, local_stage)
            if with_test:
                self.check_tests([name])

    def check_tests(self, names: Iterable[str]) -> None:
        """The same for their test records alone."""
        for name in names:
            if name + TEST not in self:
                raise FcitError(
                    f"The dataset `{name}` has no test records: add an entry `{name}{TEST}` to dataset_info.json, "
                    "set `val_size: 0.1` to keep a tenth of its records for the test, or set `fcit_eval_every: never`."
                )
            if not self._is_split(name):
                self._check_entry(name + TEST, "sft")
            elif "kto_tag" in self.entry(name).get("columns", {}):
                raise FcitError(
                    f"`val_size` cannot make test records of the dataset {name}, whose answers may be unwanted ones "
                    f"(`kto_tag`); add an entry `{name}{TEST}` to dataset_info.json."
                )

    def check_metrics(self, names: Iterable[str]) -> None:
        """Refuse datasets with unknown metrics, before anything is loaded; see :meth:`metrics`."""
        for name in names:
            self.metrics(name)

    def _check_entry(self, name: str, local_stage: str) -> None:
        entry = self.entry(name)
        _check_formatting(name, entry.get("formatting", "alpaca"))
        if "file_name" in entry:
            check_file(name, entry, self.root(name), self.is_users(name))
        elif not any(key in entry for key in ELSEWHERE):
            raise FcitError(f"The dataset {name} has no `file_name` in dataset_info.json; add it.")
        _check_kind(name, entry, local_stage)


def test_entries(datasets: Sequence[str], named: Sequence[str] | None) -> dict[str, str]:
    """Which entry has the test records of which dataset, by the recipe's ``eval_dataset``.

    Args:
        datasets: Those of the stages, in their order.
        named: Entries, one for each; None if the recipe names none.

    Raises:
        FcitError: They are not as many, or one is another dataset's.
    """
    if not named:
        return {}
    if len(named) != len(datasets):
        raise FcitError(
            f"`eval_dataset` names {len(named)} datasets and the stages {len(datasets)}; name the test records of each, in "
            f"this order: {', '.join(datasets)}."
        )
    for dataset, name in zip(datasets, named, strict=True):
        if name != dataset + TEST and name.endswith(TEST) and name.removesuffix(TEST) in datasets:
            raise FcitError(
                f"`eval_dataset` has {name} in the place of the test records of {dataset}; name them in this order: "
                f"{', '.join(datasets)}."
            )
    return dict(zip(datasets, named, strict=True))


def _check_kind(name: str, entry: dict[str, Any], local_stage: str) -> None:
    """Refuse records of another kind than the local training takes.

    Raises:
        FcitError: The sentence names the dataset.
    """
    columns = entry.get("columns", {})
    if local_stage == "kto" and "kto_tag" not in columns:
        raise FcitError(
            f"The dataset {name} has no column `kto_tag` in dataset_info.json, which says whether an answer is wanted; "
            "`fcit_local_stage: kto` needs it."
        )
    if local_stage == "dpo" and not {"chosen", "rejected"} <= columns.keys():
        raise FcitError(
            f"The dataset {name} has no columns `chosen` and `rejected` in dataset_info.json; `fcit_local_stage: dpo` needs "
            "them, and `ranking: true`."
        )
    if bool(entry.get("ranking")) != (local_stage == "dpo"):
        has, wants = ("has", "cannot be used with") if entry.get("ranking") else ("lacks", "is needed for")
        what = "test records, which have one answer each" if name.endswith(TEST) else f"`fcit_local_stage: {local_stage}`"
        raise FcitError(f"The dataset {name} {has} `ranking: true` in dataset_info.json, which {wants} {what}.")


def _check_formatting(name: str, formatting: str) -> None:
    if formatting in ("fcit", "alpaca", "sharegpt"):  # known without an import that takes seconds
        return
    from llamafactory.data.converter import DATASET_CONVERTERS

    if formatting not in DATASET_CONVERTERS:
        raise FcitError(
            f"`formatting` of the dataset {name} in dataset_info.json is {formatting!r}; "
            f"{nearest(str(formatting), DATASET_CONVERTERS)}"
        )


def check_file(name: str, entry: dict[str, Any], root: Path, users: bool) -> None:
    """Refuse a dataset whose file is not there.

    Args:
        name: The dataset.
        entry: Its entry.
        root: What the file is relative to.
        users: It is the user's own, not the benchmark's.

    Raises:
        FcitError: The sentence names the file and says where files come from.
    """
    path = root / entry["file_name"]
    if users and not path.exists():
        raise FcitError(f"The dataset {name} has no file {path}; correct its `file_name` in dataset_info.json.")
    if not users and not path.is_file():
        benchmark = benchmark_of(name)
        if benchmark is None or benchmark is BENCHMARKS["fcit"]:
            remedy = (
                "the FCIT benchmark (the folder with instructions/ and datasets/), or fetch the instructions with "
                f"`fcit-cli data download --root {shlex.quote(str(root))}`"
            )
        else:
            first = benchmark.datasets[0]
            remedy = f"{benchmark.title} (the folder with {first.train_path}); {first.how_to_get}"
        raise FcitError(f"The dataset {name} has no file {path}; set `fcit_data_dir` or FCIT_DATA_DIR to the root of {remedy}.")


def find_in_benchmark(attributes, name: str, root: Path) -> None:
    """Say where the file and the images of one of the plugin's datasets are, which LLaMA-Factory takes for the user's.

    Args:
        attributes: LLaMA-Factory's form of the dataset's entry; changed in place.
        name: The dataset.
        root: Root of the benchmark.

    Raises:
        FcitError: There is no such file.
    """
    entry = own_datasets()[name]
    check_file(name, entry, root, users=False)
    attributes.dataset_name = str(root / entry["file_name"])
    attributes.media_root = str(_images(root, entry))


def _images(root: Path, entry: dict[str, Any]) -> Path:
    """The folder of the images of a benchmark's dataset."""
    return root / entry.get("fcit_images", IMAGES)
