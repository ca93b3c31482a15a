"""A dataset's records through LLaMA-Factory's own reader, wherever its catalogue says that they are."""

from datasets import Dataset
from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.parser import get_dataset_list

from .catalogue import Catalogue, find_in_benchmark


def aligned_records(catalogue: Catalogue, name: str, model_args, data_args, training_args) -> Dataset:
    """The records of a dataset in LLaMA-Factory's standard form; with ``val_size`` those of the training or of the test.

    Args:
        catalogue: Has the dataset.
        name: Its name.
        model_args: LLaMA-Factory's model arguments.
        data_args: Its data arguments.
        training_args: Its training arguments.
    """
    (attributes,) = get_dataset_list([name], {name: catalogue.entry(name)})
    if not catalogue.is_users(name):
        find_in_benchmark(attributes, catalogue.entry_name(name), catalogue.benchmark)
    records = _load_single_dataset(attributes, model_args, data_args, training_args)
    rows = catalogue.rows(name, len(records), training_args.seed)
    return records if rows is None else records.select(rows)
