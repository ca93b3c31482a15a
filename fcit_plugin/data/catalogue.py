"""Which datasets there are, ours and the user's: their entries in ``dataset_info.json``, their folders, their checks."""

import difflib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import FcitError, nearest
from ..files import read_object
from ..shipped import shipped
from .root import data_root

#: Keys by which an entry of ``dataset_info.json`` has its records elsewhere than in a file.
_ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")

#: Suffix of the name of a data set's test records.
TEST = "_test"


@cache
def own_datasets() -> dict[str, dict[str, Any]]:
    """The entries of our own ``dataset_info.json``, by name."""
    return read_object(shipped("dataset_info") / "dataset_info.json")


def users_datasets(dataset_dir: Any) -> dict[str, dict[str, Any]]:
    """The entries of the user's own ``dataset_info.json``, which go before ours; none if there is no such file."""
    if isinstance(dataset_dir, dict):
        return dataset_dir
    path = Path(dataset_dir) / "dataset_info.json"
    if not path.is_file():
        return {}
    entries = read_object(path, remedy="mend it")
    if not all(isinstance(entry, dict) for entry in entries.values()):
        raise FcitError(f"{path} must be a JSON object with one object for each data set; mend it.")
    return entries


def dataset_entry(name: str, dataset_dir: str) -> dict[str, Any]:
    """The ``dataset_info.json`` entry of a data set, ours or the user's.

    Raises:
        FcitError: There is none; the sentence names the nearest known data set.
    """
    known = {**own_datasets(), **users_datasets(dataset_dir)}
    if name in known:
        return known[name]
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    path = Path(dataset_dir) / "dataset_info.json"
    users = f"in {path}" if path.is_file() else f"is there a {path} (`dataset_dir`)"
    raise FcitError(
        f"Unknown data set `{name}`: it is neither one of the plugin's nor {users}; the nearest known one is `{match}`."
    )


def is_dataset(name: str, dataset_dir: str) -> bool:
    """Whether a data set of this name is known, ours or the user's."""
    return name in own_datasets() or name in users_datasets(dataset_dir)


def dataset_root(name: str, dataset_dir: str) -> Path:
    """The folder that paths in a data set's entry are relative to: the user's, or the root of the benchmark."""
    return Path(dataset_dir) if name in users_datasets(dataset_dir) else data_root()


def media_root(name: str, data_args) -> str:
    """The folder that the images of a data set are in: the user's ``media_dir``, or the benchmark's."""
    users = name in users_datasets(data_args.dataset_dir)
    return data_args.media_dir if users else str(data_root() / "datasets")


def check_datasets(names: Iterable[str], dataset_dir: str, with_test: bool, local_stage: str = "sft") -> None:
    """Refuse data sets that cannot be read, as far as their entries tell, before anything is loaded.

    Args:
        names: The data sets.
        dataset_dir: Where the user's ``dataset_info.json`` is.
        with_test: Their test records are read as well.
        local_stage: What trains on them: sft, dpo or kto.

    Raises:
        FcitError: A data set, or its test records, are in no ``dataset_info.json``, or their entry has no use.
    """
    for name in names:
        _check_entry(name, dataset_dir)
        _check_kind(name, dataset_dir, local_stage)
        if with_test:
            check_tests([name], dataset_dir)


def check_tests(names: Iterable[str], dataset_dir: str) -> None:
    """The same for their test records alone."""
    for name in names:
        if not is_dataset(name + TEST, dataset_dir):
            raise FcitError(
                f"The data set `{name}` has no test records: add an entry `{name}{TEST}` to dataset_info.json, "
                "or set `fcit_eval_every: never`."
            )
        _check_entry(name + TEST, dataset_dir)
        _check_kind(name + TEST, dataset_dir, "sft")


def _check_entry(name: str, dataset_dir: str) -> None:
    entry = dataset_entry(name, dataset_dir)
    _check_formatting(name, entry.get("formatting", "alpaca"))
    if "file_name" in entry:
        check_file(name, entry, dataset_root(name, dataset_dir), users=name in users_datasets(dataset_dir))
    elif not any(key in entry for key in _ELSEWHERE):
        raise FcitError(f"The data set {name} has no `file_name` in dataset_info.json; add it.")


def _check_kind(name: str, dataset_dir: str, local_stage: str) -> None:
    """Refuse records of another kind than the local training takes.

    Raises:
        FcitError: The sentence names the data set.
    """
    entry = dataset_entry(name, dataset_dir)
    columns = entry.get("columns", {})
    if local_stage == "kto" and "kto_tag" not in columns:
        raise FcitError(
            f"The data set {name} has no column `kto_tag` in dataset_info.json, which says whether an answer is wanted; "
            "`fcit_local_stage: kto` needs it."
        )
    if local_stage == "dpo" and not {"chosen", "rejected"} <= columns.keys():
        raise FcitError(
            f"The data set {name} has no columns `chosen` and `rejected` in dataset_info.json; `fcit_local_stage: dpo` needs "
            "them, and `ranking: true`."
        )
    if bool(entry.get("ranking")) != (local_stage == "dpo"):
        has, wants = ("has", "cannot be used with") if entry.get("ranking") else ("lacks", "is needed for")
        what = "test records, which have one answer each" if name.endswith(TEST) else f"`fcit_local_stage: {local_stage}`"
        raise FcitError(f"The data set {name} {has} `ranking: true` in dataset_info.json, which {wants} {what}.")


def _check_formatting(name: str, formatting: str) -> None:
    if formatting in ("fcit", "alpaca", "sharegpt"):  # known without an import that takes seconds
        return
    from llamafactory.data.converter import DATASET_CONVERTERS

    if formatting not in DATASET_CONVERTERS:
        raise FcitError(
            f"`formatting` of the data set {name} in dataset_info.json is {formatting!r}; "
            f"{nearest(str(formatting), DATASET_CONVERTERS)}"
        )


def check_file(name: str, entry: dict[str, Any], root: Path, users: bool) -> None:
    """Refuse a data set whose file is not there.

    Args:
        name: The data set.
        entry: Its entry.
        root: What the file is relative to.
        users: It is the user's own, not the benchmark's.

    Raises:
        FcitError: The sentence names the file and says where files come from.
    """
    path = root / entry["file_name"]
    if users and not path.exists():
        raise FcitError(f"The data set {name} has no file {path}; correct its `file_name` in dataset_info.json.")
    if not users and not path.is_file():
        raise FcitError(
            f"The data set {name} has no file {path}; set `fcit_data_dir` or FCIT_DATA_DIR to the root of the FCIT "
            "benchmark (the folder with instructions/ and datasets/), or fetch the instructions with "
            f"`fcit-cli data download --root {root}`."
        )
