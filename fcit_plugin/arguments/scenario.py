"""Keys of the scenario: who has which data when."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..scenario.partitioners import PARTITIONERS
from ..scenario.settings import NAMED_SETTINGS
from .option import check_at_least, check_positive, comma_separated, nested_list, option
from .reasons import refuse

if TYPE_CHECKING:
    from . import FcitArguments


@dataclass
class ScenarioArguments:
    """Tasks, stages, clients, and the split of the data over them."""

    fcit_setting: str = option(
        "task_hom",
        "Which tasks arrive in which stage: the paper's four settings, those of other benchmarks, or custom.",
        choices=[*NAMED_SETTINGS, "custom"],
    )
    fcit_task_order: str = option(
        "paper", "Order of the setting's tasks: paper, research_code, or their names, comma-separated or as a list."
    )
    fcit_stages: str | None = option(
        None, "For the setting custom: list of stages, each a dataset or a list of several, e.g. [a, [b, c]]."
    )
    fcit_schedule: str | None = option(
        None,
        "For the setting custom, heterogeneous: for each stage the tasks (0-based, as in fcit_stages) "
        "of the selected clients, e.g. [[0, 1], [1, 1]].",
    )
    fcit_data_dir: str | None = option(
        None,
        "Root of the FCIT benchmark (instructions/ and datasets/), or `hub`: instructions from the Hugging Face hub. "
        "Default: the environment variable FCIT_DATA_DIR, else the embedded FCIT-mini.",
    )
    fcit_strict_records: bool = option(
        False, "Refuse records that LLaMA-Factory leaves out with a warning; else they are left out, and counted."
    )
    fcit_verify_data: str = option(
        "sample",
        "Which images, videos and audios are read before the run begins or goes on, to see that they are what they were: "
        "sample (one in a hundred; each other one when it is used first) or full.",
        choices=["sample", "full"],
    )
    fcit_num_clients: int = option(50, "Number of clients.")
    fcit_clients_per_round: int = option(5, "Number of clients sampled in each round.")
    fcit_num_rounds: int = option(10, "Number of rounds in each stage.")
    fcit_partition: str = option(
        "quantity",
        "How a task's records are split over the clients: quantity, label or mixture (Dirichlet skew of sizes, answers, "
        "datasets), iid, natural (a column names the client), released (the benchmark's own files), or a registered one.",
    )
    fcit_beta: float = option(1.0, "Dirichlet concentration of the partition: small means skewed.")
    fcit_min_client_samples: int = option(
        50, "Fewest records of a client; smaller ones are topped up (not in the partitions natural and released)."
    )
    fcit_partition_column: str | None = option(
        None, "For the partition natural: the column of the raw records that names a record's client, e.g. client_id."
    )


def parse_scenario(args: "FcitArguments") -> None:
    """Turn text from the command line into the values that it means."""
    args.fcit_stages = nested_list("fcit_stages", args.fcit_stages, of_names=True)
    args.fcit_schedule = nested_list("fcit_schedule", args.fcit_schedule)
    if isinstance(args.fcit_task_order, str) and "," in args.fcit_task_order:
        args.fcit_task_order = comma_separated(args.fcit_task_order)  # type: ignore[assignment]  # the command line has text alone


def check_scenario(args: "FcitArguments") -> None:
    """Refuse values that cannot work, alone or together."""
    check_at_least(args, 1, "fcit_num_clients", "fcit_clients_per_round", "fcit_num_rounds", "fcit_min_client_samples")
    check_positive(args, "fcit_beta")
    if args.fcit_clients_per_round > args.fcit_num_clients:
        refuse(
            f"`fcit_clients_per_round` ({args.fcit_clients_per_round}) is larger than "
            f"`fcit_num_clients` ({args.fcit_num_clients}); lower it or add clients."
        )
    if args.fcit_setting == "custom" and not args.fcit_stages:
        refuse("`fcit_setting: custom` needs `fcit_stages`, a list of stages with dataset names.")
    if args.fcit_setting != "custom" and (args.fcit_stages or args.fcit_schedule):
        key = "fcit_stages" if args.fcit_stages else "fcit_schedule"
        refuse(f"`{key}` is only used with `fcit_setting: custom`; the setting is {args.fcit_setting}.")
    if args.fcit_partition == "natural" and not args.fcit_partition_column:
        refuse("`fcit_partition: natural` needs `fcit_partition_column`, the column that names a record's client.")
    if args.fcit_partition_column and args.fcit_partition in PARTITIONERS and args.fcit_partition != "natural":
        refuse(
            f"`fcit_partition_column` is not used by `fcit_partition: {args.fcit_partition}`; set "
            "`fcit_partition: natural` or take it out."
        )
