"""The entries of ``dataset_info.json``, ours and the user's: where they are, and what may stand in one."""

import logging
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field
from typing_extensions import TypedDict

from ..errors import FcitError, meant, nearest
from ..files import read_object
from ..schema import LARGEST, PathName, Word, checked
from ..shipped import shipped
from .forms import TAGS
from .named import ForTest, Named

logger = logging.getLogger(__name__)

#: Keys by which an entry of ``dataset_info.json`` has its records elsewhere than in a file.
ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")

#: What columns may be for, as LLaMA-Factory calls it.
COLUMN_NAMES = (
    *("prompt", "query", "response", "history", "messages", "system", "tools", "images", "videos", "audios"),
    *("chosen", "rejected", "kto_tag"),
)


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
    num_samples: Annotated[int, Field(ge=1, le=LARGEST)] | None
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


def checked_entry(name: str, entry: Any) -> dict[str, Any]:
    """An entry as it is, whose values are of their types and whose names are known where a wrong one changes what is done.

    Args:
        name: The entry.
        entry: What ``dataset_info.json`` has of it.

    Raises:
        FcitError: The sentence names the entry, and what was probably meant.
    """
    place = f"The dataset {name} in dataset_info.json"
    found = cast("dict[str, Any]", checked(_Entry, entry, place, "fix it"))
    ours = [key for key in _Entry.__annotations__ if key.startswith("fcit_")]
    for key in found:
        if key not in ours and key.strip().casefold().startswith("fcit"):
            raise FcitError(f"{place} has the unknown key `{key}`; {nearest(key, ours)}")
    for kind, known in (("columns", COLUMN_NAMES), ("tags", TAGS)):
        for key in _unknown(found.get(kind, {}), known):
            raise FcitError(f"{place} has the unknown name `{key}` in `{kind}`; {nearest(key, known)}")
    return found


def _unknown(given: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """The names that neither we know nor the LLaMA-Factory that is installed."""
    unknown = [name for name in given if name not in known]
    if unknown:  # asked for late, for it takes seconds
        from llamafactory.data.parser import DatasetAttr

        unknown = [name for name in unknown if name not in DatasetAttr.__dataclass_fields__]
    return unknown


def tell_unknown_keys(name: Named, entry: Mapping[str, Any]) -> None:
    """Warn of keys that change nothing; they may be notes, or the keys of another version."""
    for key in _unknown(entry, [*_Entry.__annotations__, "file_sha1"]):  # the hash stood in the files of older versions
        match = meant(key, _Entry.__annotations__)
        logger.warning(
            "The dataset %s in dataset_info.json has the key `%s`, which is not read%s.",
            *(name, key, f"; did you mean `{match}`?" if match else ""),
        )


def check_kind(name: Named, entry: Mapping[str, Any], local_stage: str) -> None:
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
        what = "test records, which have one answer each" if isinstance(name, ForTest) else f"`fcit_local_stage: {local_stage}`"
        raise FcitError(f"The dataset {name} {has} `ranking: true` in dataset_info.json, which {wants} {what}.")


def check_formatting(name: Named, formatting: str) -> None:
    """Refuse a format that no converter reads.

    Raises:
        FcitError: The sentence names the dataset.
    """
    if formatting in ("fcit", "alpaca", "sharegpt"):  # known without an import that takes seconds
        return
    from llamafactory.data.converter import DATASET_CONVERTERS

    if formatting not in DATASET_CONVERTERS:
        raise FcitError(
            f"`formatting` of the dataset {name} in dataset_info.json is {formatting!r}; "
            f"{nearest(str(formatting), DATASET_CONVERTERS)}"
        )
