"""The partition that a recipe asks for."""

from ..arguments import FcitArguments
from ..data.root import benchmark_root
from ..fcit_benchmark.layout import PARTITIONS
from ..scenario.partition import PartitionOptions
from ..scenario.released_partition import released_folder


def partition_options(args: FcitArguments) -> PartitionOptions:
    """The recipe's keys of the partition.

    Raises:
        FcitError: Released partition files are asked for that are not there.
    """
    released = args.fcit_partition == "released"
    return PartitionOptions(
        num_clients=args.fcit_num_clients,
        method=args.fcit_partition,
        beta=args.fcit_beta,
        min_samples=args.fcit_min_client_samples,
        column=args.fcit_partition_column,
        released=released_folder(benchmark_root(args.fcit_data_dir, PARTITIONS), args.fcit_setting, args.fcit_beta)
        if released
        else None,
    )
