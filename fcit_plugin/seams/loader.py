"""Seam: ``llamafactory.data.loader`` - where our datasets are, and what the user of a prompt has said.

The FCIT datasets are read from the root that the recipe names (``fcit_data_dir``), and the user's turns are kept for a model
that is routed by them (:mod:`.hf_engine`). Both functions see the data arguments alone, on which the parser's seam has put what
they need. Records that a run of ours reads are brought into the standard form whatever stands only in later ones.
"""

import copy
import inspect

import numpy as np
import wrapt
from datasets import Dataset

from ..data.catalogue import find_in_benchmark
from ..data.instructions import user_turns
from ..data.root import benchmark_root
from ..data.telling_order import TELLING, telling_order
from ..recipe.request import DataRequest
from .dataset_list import NAME

#: How the columns of token ids end: pairs have two of them, and KTO has one with another record's answer.
_IDS = "input_ids"


def install(loader_module) -> None:
    """Wrap the functions that read one dataset, bring it into the standard form, and make token ids of messages."""
    of_align = inspect.signature(loader_module.align_dataset)
    of_load = inspect.signature(loader_module._load_single_dataset)
    of_preprocess = inspect.signature(loader_module._get_preprocessed_dataset)

    def load(wrapped, instance, args, kwargs):
        given = of_load.bind(*args, **kwargs).arguments
        name = getattr(given["dataset_attr"], NAME, None)
        if name is not None:
            find_in_benchmark(given["dataset_attr"], name, benchmark_root(DataRequest.of(given["data_args"]).data_dir))
        return wrapped(*args, **kwargs)

    def align(wrapped, instance, args, kwargs):
        given = of_align.bind(*args, **kwargs).arguments
        order = telling_order(given["dataset"]) if getattr(given["dataset_attr"], TELLING, False) else None
        if order is None:
            return wrapped(*args, **kwargs)
        given["data_args"] = copy.copy(given["data_args"])
        given["data_args"].preprocessing_num_workers = None  # each would begin with records of its own
        return wrapped(**{**given, "dataset": given["dataset"].select(order)}).select(np.argsort(order))

    def preprocess(wrapped, instance, args, kwargs):
        given = of_preprocess.bind(*args, **kwargs).arguments
        found = wrapped(*args, **kwargs)
        aligned, kept = given["dataset"], DataRequest.of(given["data_args"]).instructions
        # LLaMA-Factory drops records that it finds invalid, and streams; the rest is read back from the ids then
        if kept is not None and isinstance(found, Dataset) and len(found) == len(aligned):
            turns = [user_turns(prompt) for prompt in aligned["_prompt"]]
            for name in found.column_names:
                if name.endswith(_IDS):
                    for ids, said in zip(found[name], turns, strict=True):
                        kept.remember(ids, said)
        return found

    wrapt.wrap_function_wrapper(loader_module, "align_dataset", align)
    wrapt.wrap_function_wrapper(loader_module, "_load_single_dataset", load)
    wrapt.wrap_function_wrapper(loader_module, "_get_preprocessed_dataset", preprocess)
