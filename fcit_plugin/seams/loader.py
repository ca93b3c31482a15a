"""Seam: ``llamafactory.data.loader`` - the FCIT data sets are read from the root that the recipe names (``fcit_data_dir``).

Here a data set meets the data arguments, on which the parser's seam has put that key. What else is wrapped in this module
is in :mod:`fcit_plugin.seams.messages`.
"""

import inspect

import wrapt

from ..data.catalogue import find_in_benchmark
from ..data.root import benchmark_root
from . import messages
from .dataset_list import NAME


def install(loader_module) -> None:
    """Wrap the function that reads one data set, and the one that makes token ids."""
    signature = inspect.signature(loader_module._load_single_dataset)

    def wrapper(wrapped, instance, args, kwargs):
        given = signature.bind(*args, **kwargs).arguments
        name = getattr(given["dataset_attr"], NAME, None)
        if name is not None:
            request = getattr(given["data_args"], "fcit_request", None)
            find_in_benchmark(given["dataset_attr"], name, benchmark_root(request.data_dir if request is not None else None))
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(loader_module, "_load_single_dataset", wrapper)
    messages.install(loader_module)
