"""Seam: ``llamafactory.data.parser`` - the FCIT data sets are known whatever ``dataset_dir`` the user has.

Also the converter for ``formatting: fcit``, which reads the two record layouts of the released benchmark.
"""

import difflib
import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import wrapt

from ..benchmark.root import data_root

#: Suffix of the name of a data set's test records.
TEST = "_test"


def install(parser_module) -> None:
    """Wrap ``get_dataset_list``; other names than ours go to LLaMA-Factory as before."""

    def wrapper(wrapped, instance, args, kwargs):
        return _dataset_list(wrapped, *args, **kwargs)

    def _dataset_list(wrapped, dataset_names, dataset_dir):
        ours = {name: own_datasets()[name] for name in dataset_names or [] if name in own_datasets()}
        if ours:
            ours = {name: entry for name, entry in ours.items() if name not in users_datasets(dataset_dir)}
        if not ours:
            return wrapped(dataset_names, dataset_dir)
        return [
            _attributes(name, ours[name]) if name in ours else wrapped([name], dataset_dir)[0]
            for name in dataset_names
        ]

    def _attributes(name: str, entry: dict[str, Any]):
        path = data_root() / entry["file_name"]
        if not path.is_file():
            raise ValueError(
                f"The data set {name} has no file {path}; set `fcit_data_dir` or FCIT_DATA_DIR to the root of the FCIT "
                "benchmark (the folder with instructions/ and datasets/), or fetch the instructions with "
                f"`fcit-cli data download --root {data_root()}`."
            )
        attributes = parser_module.DatasetAttr("file", dataset_name=str(path))
        attributes.join(entry)
        attributes.media_root = str(data_root() / "datasets")
        return attributes

    wrapt.wrap_function_wrapper(parser_module, "get_dataset_list", wrapper)
    wrapt.register_post_import_hook(_install_converter, "llamafactory.data.converter")


def _install_converter(converter_module) -> None:
    from .converter import make_converter

    converter_module.register_dataset_converter("fcit", make_converter(converter_module.DatasetConverter))


@cache
def own_datasets() -> dict[str, dict[str, Any]]:
    """The entries of our own ``dataset_info.json``, by name."""
    return json.loads((files("fcit_plugin") / "dataset_info" / "dataset_info.json").read_text(encoding="utf-8"))


def users_datasets(dataset_dir: Any) -> dict[str, dict[str, Any]]:
    """The entries of the user's own ``dataset_info.json``, which go before ours; none if there is no such file."""
    if isinstance(dataset_dir, dict):
        return dataset_dir
    path = Path(dataset_dir) / "dataset_info.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def dataset_entry(name: str, dataset_dir: str) -> dict[str, Any]:
    """The ``dataset_info.json`` entry of a data set, ours or the user's.

    Raises:
        ValueError: There is none; the sentence names the nearest known data set.
    """
    known = {**own_datasets(), **users_datasets(dataset_dir)}
    if name in known:
        return known[name]
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise ValueError(
        f"Unknown data set `{name}`: it is neither one of the plugin's nor in {dataset_dir}/dataset_info.json; "
        f"the nearest known one is `{nearest[0]}`."
    )


def is_dataset(name: str, dataset_dir: str) -> bool:
    """Whether a data set of this name is known, ours or the user's."""
    return name in own_datasets() or name in users_datasets(dataset_dir)


def dataset_root(name: str, dataset_dir: str) -> Path:
    """The folder that paths in a data set's entry are relative to: the user's, or the root of the benchmark."""
    return Path(dataset_dir) if name in users_datasets(dataset_dir) else data_root()


def check_datasets(names: Iterable[str], dataset_dir: str, with_test: bool) -> None:
    """Refuse unknown data sets before anything is loaded.

    Raises:
        ValueError: A data set, or its test records, are in no ``dataset_info.json``.
    """
    for name in names:
        dataset_entry(name, dataset_dir)
        if not with_test:
            continue
        try:
            dataset_entry(name + TEST, dataset_dir)
        except ValueError as error:
            raise ValueError(
                f"The data set `{name}` has no test records: add an entry `{name}{TEST}` to dataset_info.json, "
                "or set `fcit_eval_every: never`."
            ) from error
