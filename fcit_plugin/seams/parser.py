"""Seam: ``llamafactory.hparams.parser`` - take the ``fcit_*`` keys out, leave the rest as it was.

The parsed :class:`FcitArguments` travel on the fine-tuning arguments (attribute ``fcit``): they are the one
argument object that LLaMA-Factory hands both to the workflow and to the adapter. A run without any
``fcit_*`` key and with a stage of LLaMA-Factory's own carries none.
"""

import logging
import sys

import wrapt
from transformers import HfArgumentParser

from ..arguments import FCIT_STAGES, FcitArguments, check_names
from ..autoload import check_seams
from ..errors import FcitError
from ..recipe.bounds import reference_recipe
from ..recipe.combinations import check_combination
from ..recipe.devices import set_aside
from ..recipe.embedded import resolve_model
from ..recipe.folder import with_folder
from ..recipe.read import read_recipe, split
from ..recipe.stage import earlier_folder, fill_in, folder_to_evaluate
from ..recipe.values import check_values
from ..recipe.watch import watch


def install(parser_module) -> None:
    """Wrap the three functions that read arguments, and let our log lines come out as LLaMA-Factory's do."""
    logging.getLogger("fcit_plugin").parent = parser_module.logging.get_logger()

    def reader(wrapped, instance, args, kwargs):
        given = args[0] if args else kwargs.get("args")
        ours = watch(sys.argv[1:] if given is None else given)
        return read_recipe(wrapped, sys.argv[1:]) if ours and given is None else wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(parser_module, "read_args", reader)

    def wrapper(wrapped, instance, args, kwargs):
        given = parser_module.read_args(*args, **kwargs)
        if isinstance(given, list) and ("-h" in given or "--help" in given):
            known = parser_module._TRAIN_ARGS if wrapped.__name__ == "get_train_args" else parser_module._INFER_ARGS
            HfArgumentParser([*known, FcitArguments.joined()]).parse_args_into_dataclasses(given)  # prints and exits
        rest, stage, fcit = split(given)
        if stage is not None and wrapped.__name__ == "get_train_args":
            check_names(rest, (name for part in parser_module._TRAIN_ARGS for name in part.__dataclass_fields__))
        given_model = rest.get("model_name_or_path") if isinstance(rest, dict) else None
        resolve_model(rest)
        if fcit is None:
            return with_folder(wrapped(rest), None)
        check_seams()
        if stage in FCIT_STAGES and wrapped.__name__ == "get_infer_args":
            raise FcitError(
                f"`stage: {stage}` is for `llamafactory-cli train`; take it and the fcit keys out, and name the run's "
                "folder as `adapter_name_or_path`."
            )
        own_data = stage == "fcit_client" and "dataset" in rest
        evaluated = folder_to_evaluate(rest, stage) if stage in FCIT_STAGES else None
        if stage in FCIT_STAGES:
            fill_in(rest, stage, fcit)
            check_values(rest, parser_module._TRAIN_ARGS)
        earlier = earlier_folder(rest, stage) if stage in FCIT_STAGES else None
        given_fcit = fcit
        if fcit.fcit_reference:
            fcit = reference_recipe(rest, fcit)
        aside = set_aside(rest) if fcit.fcit_dry_run else {}
        parsed = wrapped(rest)
        parsed[1].fcit_data_dir = fcit.fcit_data_dir  # for the loader, which sees the data arguments alone
        finetuning_args = parsed[-2]
        if stage in FCIT_STAGES:
            check_combination(*parsed[:4], fcit, earlier, aside)
        else:
            with_folder(parsed, fcit)
        finetuning_args.fcit = fcit
        finetuning_args.fcit_given = given_fcit
        finetuning_args.fcit_aside = aside
        finetuning_args.fcit_stage = stage
        finetuning_args.fcit_evaluated = evaluated
        finetuning_args.fcit_earlier = earlier
        finetuning_args.fcit_own_data = own_data
        finetuning_args.fcit_base_model = given_model
        finetuning_args.fcit_generating_args = parsed[-1]
        return parsed

    for name in ("get_train_args", "get_infer_args"):
        wrapt.wrap_function_wrapper(parser_module, name, wrapper)
