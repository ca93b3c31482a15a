"""``fcit-cli data partition``: who has how many records of which task, before anything is trained or even loaded."""

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

from ..errors import FcitError, printable
from ..files import write_rows
from .command import Command
from .listing import plain_console, plain_table

if TYPE_CHECKING:
    from ..scenario.partition import Partition

#: Keys of LLaMA-Factory that decide the partition, with its defaults and their types.
_OTHERS: dict[str, tuple[Any, Any]] = {
    "seed": (42, int),
    "dataset_dir": ("data", str),
    "max_samples": (None, int),
    "val_size": (0.0, float),
    "adapter_name_or_path": (None, str),
    "cache_dir": (None, str),
}

_RECIPES = (".yaml", ".yml")

#: More clients than this are not listed one by one.
_LISTED = 100

#: Characters a line; tables take what they need, also where the output is not a terminal.
_WIDE = 400


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", nargs="*", metavar="RECIPE|KEY=VALUE", help="a recipe, and keys in its stead, such as fcit_beta=0.5 seed=1"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it to this PNG file")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write client, task, dataset, records to this file")


def _run(args: argparse.Namespace) -> None:
    from ..folders import check_file_place

    for path, flag in ((args.plot, "--plot"), (args.csv, "--csv")):
        if path:
            check_file_place(path, flag)
    partition = partition_of(_read_keys(args.recipe))
    table = partition.table(partition.scenario.tasks_to_train())
    names = partition.client_names()
    _print(partition, table, names)
    for path, write in ((args.plot, _draw), (args.csv, _write_csv)):
        if path:
            write(table, path, names)
            print(f"Written to {path}.")


def partition_of(keys: dict[str, Any]) -> "Partition":
    """The partition that a recipe's run makes, from the files alone.

    Args:
        keys: The recipe. Keys that do not decide the partition are passed over.

    Raises:
        FcitError: A fcit key is misspelled or has a value that cannot work, or a dataset is unknown or not in a file.
    """
    from ..arguments import FcitArguments, check_names
    from ..arguments.option import check_text, check_type
    from ..data.catalogue import Catalogue
    from ..data.forms import USES
    from ..data.raw_files import TrainFiles
    from ..recipe.partition_options import partition_options
    from ..recipe.read import split_keys
    from ..scenario import Partition, get_scenario
    from ..state.folder import StateFolder

    rest, _, found = split_keys(keys)
    assert isinstance(rest, dict)  # as it was given
    ours = found or {}
    others = {key: default if rest.get(key) is None else rest[key] for key, (default, _) in _OTHERS.items()}
    check_names(ours)
    for key, value in others.items():
        if value is not None:
            check_type(key, value, _OTHERS[key][1])
            check_text(key, value, _OTHERS[key][1], several=key == "dataset_dir")
    args = FcitArguments(**ours)
    scenario = get_scenario(args.fcit_setting, args.fcit_stages, args.fcit_schedule, args.fcit_task_order)
    if others["adapter_name_or_path"]:
        earlier = StateFolder(Path(others["adapter_name_or_path"]))
        scenario = earlier.finished_scenario().followed_by(scenario)
    catalogue = Catalogue(others["dataset_dir"], args.fcit_data_dir, held_out=others["val_size"], cache_dir=others["cache_dir"])
    catalogue.check(scenario.datasets_to_train(), with_test=False, local_stage=args.fcit_local_stage)
    use, strict = USES[args.fcit_local_stage], args.fcit_strict_records
    source = TrainFiles(catalogue, others["max_samples"], others["seed"], use, strict)
    return Partition(scenario, source, partition_options(args), others["seed"])


def _read_keys(given: Sequence[str]) -> dict[str, Any]:
    """A recipe file, if there is one, with the ``key=value`` of the command line over it."""
    from omegaconf import OmegaConf

    from ..arguments import check_names
    from ..arguments.aliases import current_keys
    from ..recipe.read import read_recipe, read_yaml

    # as to LLaMA-Factory a recipe's name may have a sign of equality in it, such as beta=0.5/fcit.yaml
    files = [part for part in given if "=" not in part or (part.endswith(_RECIPES) and Path(part).is_file())]
    if len(files) > 1:
        raise FcitError(f"{' and '.join(files)}: name one recipe; keys are given as key=value.")

    def read() -> tuple[dict[str, Any], dict[str, Any]]:
        recipe = OmegaConf.create(read_yaml(Path(files[0])) if files else {})
        over = OmegaConf.from_dotlist([part for part in given if part not in files])
        keys, given_keys = (OmegaConf.to_container(part) for part in (OmegaConf.merge(recipe, over), over))
        return cast(dict[str, Any], keys), cast(dict[str, Any], given_keys)

    keys, over = read_recipe(read, files or ["fcit-cli data partition"])
    # another key may follow a recipe too, but not one of these with a slip in it
    over = current_keys(over)
    check_names((key for key in over if key.startswith("fcit_") or get_close_matches(key, _OTHERS, cutoff=0.85)), _OTHERS)
    return keys


def _print(partition: "Partition", table: Sequence[dict[str, Any]], names: Sequence[str] | None) -> None:
    from ..evaluation.plots import short_name

    options = partition.options
    console = plain_console(_WIDE)
    summary = plain_table(f"{partition.scenario.name}: {options.num_clients} clients, {options}, seed {partition.seed}")
    for name in ("task", "dataset"):
        summary.add_column(name)
    for name in ("records", "smallest", "median", "largest", "without"):
        summary.add_column(name, justify="right")
    for row in table:
        counts = row["records"]
        numbers = (sum(counts), min(counts), median(counts), max(counts), counts.count(0))
        summary.add_row(printable(row["task"]), printable(row["dataset"]), *(f"{number:,.0f}" for number in numbers))
    console.print(summary)
    if options.num_clients > _LISTED:
        console.print(f"With more than {_LISTED} clients, --csv FILE lists them one by one.")
        return
    listed = plain_table("Records of each client")
    listed.add_column("client", justify="right")
    for row in table:
        dataset = short_name(row["dataset"])
        listed.add_column(printable(dataset if dataset == row["task"] else f"{row['task']}\n{dataset}"), justify="right")
    for client, name in enumerate(names or map(str, range(options.num_clients))):
        listed.add_row(printable(name), *(f"{row['records'][client]:,}" for row in table))
    console.print(listed)


def _draw(table: Sequence[dict[str, Any]], path: Path, names: Sequence[str] | None) -> None:
    from ..evaluation.plots import plot_partition

    path.parent.mkdir(parents=True, exist_ok=True)
    plot_partition(table, path, clients=names or ())


def _write_csv(table: Sequence[dict[str, Any]], path: Path, names: Sequence[str] | None) -> None:
    rows = [
        [client if names is None else names[client], row["task"], row["dataset"], n]
        for row in table
        for client, n in enumerate(row["records"])
    ]
    write_rows(path, [["client", "task", "dataset", "records"], *rows])


DATA_PARTITION = Command(
    "data partition",
    "show who has how many records of which task by a recipe",
    _add_arguments,
    _run,
)
