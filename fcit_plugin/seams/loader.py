"""Seam: ``llamafactory.data.loader`` - the FCIT data sets are read from the root that the recipe names (``fcit_data_dir``).

Here a data set meets the data arguments, on which the parser's seam has put that key. What else is wrapped in this module
is in :mod:`fcit_plugin.seams.messages`.
"""

import wrapt

from ..data.catalogue import find_in_benchmark
from ..data.root import benchmark_root
from . import messages
from .dataset_list import NAME


def install(loader_module) -> None:
    """Wrap the function that reads one data set, and the one that makes token ids."""

    def wrapper(wrapped, instance, args, kwargs):
        return _load(wrapped, *args, **kwargs)

    def _load(wrapped, dataset_attr, model_args, data_args, training_args):
        name = getattr(dataset_attr, NAME, None)
        if name is not None:
            find_in_benchmark(dataset_attr, name, benchmark_root(getattr(data_args, "fcit_data_dir", None)))
        return wrapped(dataset_attr, model_args, data_args, training_args)

    wrapt.wrap_function_wrapper(loader_module, "_load_single_dataset", wrapper)
    messages.install(loader_module)
