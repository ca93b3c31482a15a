"""Which datasets there are, ours and the user's: their entries in ``dataset_info.json``, their folders, their checks."""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import FcitArguments
from ..errors import FcitError, closest
from ..fcit_benchmark.benchmarks import BENCHMARKS, benchmark_of
from ..fcit_benchmark.layout import IMAGES
from .entries import (
    ELSEWHERE,
    check_formatting,
    check_kind,
    checked_entry,
    own_datasets,
    tell_unknown_keys,
    users_datasets,
)
from .file_names import refuse_pattern
from .named import TEST, ForTest, Named, refuse_trained_tests
from .root import benchmark_root, is_on_hub
from .scoring import Scoring, scoring
from .slices import overlaps


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
        cache_dir: The recipe's ``cache_dir``, where files are put as they have been read.
    """

    dataset_dir: str | dict[str, dict[str, Any]]
    data_root: str | None = None
    media_dir: str | None = None
    caption_metric: str = FcitArguments.fcit_caption_metric
    held_out: float = 0.0
    tests: Mapping[str, str] = field(default_factory=dict)
    cache_dir: str | None = None

    @classmethod
    def of(cls, data_args, args: FcitArguments, evaluated: Sequence[str] = (), cache_dir: str | None = None) -> "Catalogue":
        """The catalogue of a recipe.

        Args:
            data_args: LLaMA-Factory's data arguments.
            args: Ours.
            evaluated: The datasets whose test records ``eval_dataset`` names, in its order.
            cache_dir: Of LLaMA-Factory's model arguments.

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
            cache_dir,
        )

    @cached_property
    def _users(self) -> dict[str, dict[str, Any]]:
        return users_datasets(self.dataset_dir)

    def __contains__(self, name: Named) -> bool:
        return self._has_entry(self.entry_name(name))

    def _has_entry(self, name: str) -> bool:
        return name in self._users or name in own_datasets()

    def entry_name(self, name: Named) -> str:
        """The name of the entry that a dataset's records, or its test records, are in."""
        if isinstance(name, str):
            return name
        if name.dataset in self.tests:
            return self.tests[name.dataset]
        return name.dataset if self._is_split(name.dataset) else str(name)

    def _is_split(self, dataset: str) -> bool:
        """Whether some of a dataset's records are its test records (``val_size``)."""
        needs = self.held_out > 0 and dataset not in self.tests and not self._has_entry(str(ForTest(dataset)))
        return needs and self._has_entry(dataset)

    def rows(self, name: Named, count: int, seed: int, most: int | None = None) -> np.ndarray | None:
        """Which records of its entry a dataset has, of which some may be drawn (``num_samples``) or be the test (``val_size``).

        LLaMA-Factory draws from NumPy's global state; then two readings of one file, such as those of its training and its
        test records, would have others, and so would a run that is taken up again.

        Args:
            name: The dataset, or its test records.
            count: Records of the entry.
            seed: The recipe's seed.
            most: The recipe's ``max_samples``, for those that are drawn; of others the caller has the first ones.

        Returns:
            Indices, int64, ascending; one stands there several times if more are to be drawn than there are. None for all.

        Raises:
            FcitError: None would be left on one side, or one would be on both.
        """
        dataset = name if isinstance(name, str) else name.dataset
        wanted, is_split = self.entry(name).get("num_samples"), self._is_split(dataset)
        if wanted is None and not is_split:
            return None
        drawn = np.arange(count)
        split = self.entry(name).get("split")
        if is_split and split is not None and overlaps(split):
            raise FcitError(
                f"The dataset {dataset} has `split: {split}` in dataset_info.json, which takes records twice, so that with "
                "`val_size` some would be trained on and be the test; take each once."
            )
        if wanted is not None:
            if is_split and wanted > count:
                raise FcitError(
                    f"The dataset {dataset} has `num_samples: {wanted}` in dataset_info.json and {count} records, so that some "
                    "would be there twice and with `val_size` be trained on and be the test; lower it, or take it out."
                )
            rng = np.random.default_rng([seed, 1])
            drawn = rng.permutation(count)[:wanted]  # each once, before any is there twice
            drawn = np.sort(np.concatenate([drawn, rng.integers(count, size=wanted - len(drawn))])[:most])
        if not is_split:
            return drawn
        size = round(self.held_out) if self.held_out >= 1 else math.ceil(self.held_out * len(drawn))
        if size >= len(drawn):
            raise FcitError(
                f"`val_size: {self.held_out:g}` leaves nothing to train on of the dataset {dataset}, which has {len(drawn)} "
                "records; lower it."
            )
        order = np.random.default_rng(seed).permutation(len(drawn))
        return drawn[np.sort(order[size:] if isinstance(name, str) else order[:size])]

    def is_users(self, name: Named) -> bool:
        """Whether the dataset is the user's, not the benchmark's."""
        return self.entry_name(name) in self._users

    def entry(self, name: Named) -> dict[str, Any]:
        """The ``dataset_info.json`` entry of a dataset.

        Raises:
            FcitError: There is none; the sentence names the nearest known dataset.
        """
        known, entry = {**own_datasets(), **self._users}, self.entry_name(name)
        if entry in known:
            return checked_entry(entry, known[entry])
        users = "in the entries given as `dataset_dir`"
        if not isinstance(self.dataset_dir, dict):
            path = Path(self.dataset_dir) / "dataset_info.json"
            users = f"in {path}" if path.is_file() else f"is there a {path} (`dataset_dir`)"
        raise FcitError(
            f"Unknown dataset `{entry}`: it is neither one of the plugin's nor {users}; the nearest known one is "
            f"`{closest(entry, known)}`."
        )

    @property
    def benchmark(self) -> Path:
        """Root of the FCIT benchmark."""
        return benchmark_root(self.data_root)

    def root(self, name: Named) -> Path:
        """The folder that paths in a dataset's entry are relative to: the user's, or the root of the benchmark.

        Raises:
            FcitError: It is fetched from a hub, which has other datasets, or the user's entries have no folder.
        """
        if not self.is_users(name):
            of = benchmark_of(self.entry_name(name))
            if is_on_hub(self.data_root) and of is not None and of is not BENCHMARKS["fcit"]:
                raise FcitError(
                    f"`fcit_data_dir: hub` (or FCIT_DATA_DIR) fetches the FCIT benchmark, and the dataset {name} is of "
                    f"{of.title}; {of.datasets[0].how_to_get}, and name the folder that you put it into."
                )
            return self.benchmark
        if isinstance(self.dataset_dir, dict):
            raise FcitError(
                f"The dataset {name} has a `file_name`, and `dataset_dir` gives the entries in place of the folder that it is "
                "in; put them into a dataset_info.json there, and name that folder as `dataset_dir`."
            )
        return Path(self.dataset_dir)

    def media_root(self, name: Named) -> str | None:
        """The folder that the images of a dataset are in: the user's ``media_dir``, or the benchmark's."""
        return self.media_dir if self.is_users(name) else str(_images(self.benchmark, self.entry(name)))

    def metrics(self, name: str) -> Scoring:
        """By which metrics answers are scored; the entry of the test records goes before that of the training records.

        Raises:
            FcitError: A metric is unknown; the sentence names the dataset and the nearest metric.
        """
        trained = self.entry(name) if name in self else {}  # it may have been long ago
        return scoring(name, {**trained, **self.entry(ForTest(name))}, self.caption_metric)

    def check(self, names: Iterable[str], with_test: bool, local_stage: str = "sft") -> None:
        """Refuse datasets that cannot be read, as far as their entries tell, before anything is loaded.

        Args:
            names: The datasets.
            with_test: Their test records are read as well.
            local_stage: What trains on them: sft, dpo or kto.

        Raises:
            FcitError: A dataset, or its test records, are in no ``dataset_info.json``, or their entry has no use.
        """
        names = [*names]
        if with_test:
            refuse_trained_tests(names, names)
        for name in names:
            self._check_entry(name, local_stage)
            if with_test:
                self.check_tests([name])

    def check_tests(self, names: Iterable[str]) -> None:
        """The same for their test records alone."""
        for name in names:
            if ForTest(name) not in self:
                raise FcitError(
                    f"The dataset `{name}` has no test records: add an entry `{name}{TEST}` to dataset_info.json, "
                    "set `val_size: 0.1` to keep a tenth of its records for the test, or set `fcit_eval_every: never`."
                )
            if not self._is_split(name):
                self._check_entry(ForTest(name), "sft")
            elif "kto_tag" in self.entry(name).get("columns", {}):
                raise FcitError(
                    f"`val_size` cannot make test records of the dataset {name}, whose answers may be unwanted ones "
                    f"(`kto_tag`); add an entry `{name}{TEST}` to dataset_info.json."
                )

    def check_metrics(self, names: Iterable[str]) -> None:
        """Refuse datasets with unknown metrics, before anything is loaded; see :meth:`metrics`."""
        for name in names:
            self.metrics(name)

    def _check_entry(self, name: Named, local_stage: str) -> None:
        entry = self.entry(name)
        tell_unknown_keys(name, entry)
        check_formatting(name, entry.get("formatting", "alpaca"))
        if "file_name" in entry:
            check_file(name, entry, self.root(name), self.is_users(name))
        elif not any(key in entry for key in ELSEWHERE):
            raise FcitError(f"The dataset {name} has no `file_name` in dataset_info.json; add it.")
        check_kind(name, entry, local_stage)


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


def check_file(name: Named, entry: dict[str, Any], root: Path, users: bool) -> None:
    """Refuse a dataset whose file is not there, or not read by its name.

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
        benchmark = benchmark_of(str(name))
        if benchmark is None or benchmark is BENCHMARKS["fcit"]:
            remedy = (
                "the FCIT benchmark (the folder with instructions/ and datasets/), or fetch the instructions with "
                f"`fcit-cli data download --root {shlex.quote(str(root))}`"
            )
        else:
            first = benchmark.datasets[0]
            remedy = f"{benchmark.title} (the folder with {first.train_path}); {first.how_to_get}"
        raise FcitError(f"The dataset {name} has no file {path}; set `fcit_data_dir` or FCIT_DATA_DIR to the root of {remedy}.")
    if path.is_file():
        refuse_pattern(path, f"The file {path} of the dataset {name}")


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
