"""Seam: ``llamafactory.hparams.parser`` - take the ``fcit_*`` keys out, leave the rest as it was.

The parsed :class:`FcitArguments` travel on the fine-tuning arguments (attribute ``fcit``): they are the one
argument object that LLaMA-Factory hands both to the workflow and to the adapter. A run without any
``fcit_*`` key and with a stage of LLaMA-Factory's own carries none.
"""

import difflib
import logging
import sys
from pathlib import Path
from typing import Any

import wrapt
import yaml
from llamafactory.extras.constants import EngineName
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from transformers import HfArgumentParser

from .. import autoload
from ..arguments import EXPORT_KEYS, FCIT_STAGES, ROUTING_KEYS, FcitArguments, check_names, check_stage
from ..data.root import use_data_root
from ..errors import one_line
from ..recipe.read import read_recipe
from ..recipe.watch import watch
from ..scenario.settings import get_scenario
from ..state.output_folder import fcit_folder
from .combinations import check_combination
from .devices import set_aside
from .instructions import Instructions
from .partition import partition_options
from .references import reference_recipe
from .values import check_values


def _mini() -> str:
    from ..samples.mini.build import base_model_path

    return str(base_model_path())


def _mini_text() -> str:
    from ..samples.text import text_model_path

    return str(text_model_path())


#: Names of ``model_name_or_path`` that mean a model inside the package.
EMBEDDED_MODELS = {"fcit-mini": _mini, "fcit-mini-text": _mini_text}


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
            HfArgumentParser([*known, FcitArguments]).parse_args_into_dataclasses(given)  # prints and exits
        rest, stage, fcit = split(given)
        if stage is not None and wrapped.__name__ == "get_train_args":
            check_names(rest, (name for part in parser_module._TRAIN_ARGS for name in part.__dataclass_fields__))
        given_model = rest.get("model_name_or_path") if isinstance(rest, dict) else None
        resolve_model(rest)
        use_data_root(fcit.fcit_data_dir if fcit else None)
        if fcit is None:
            return with_folder(wrapped(rest), None)
        check_seams()
        if stage in FCIT_STAGES and wrapped.__name__ == "get_infer_args":
            raise ValueError(
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


def folder_to_evaluate(recipe: dict[str, Any], stage: str) -> Path | None:
    """The FCIT folder that a recipe with ``do_train: false`` evaluates; None for one that trains.

    Args:
        recipe: LLaMA-Factory's keys; ``adapter_name_or_path`` is taken out.
        stage: The fcit stage.

    Raises:
        ValueError: There is no such folder, or the stage does not evaluate.
    """
    if recipe.get("do_train", True) is not False:
        return None
    if stage != "fcit":
        raise ValueError(f"`do_train: false` belongs to `stage: fcit`, which evaluates a folder; `stage: {stage}` trains.")
    given = recipe.pop("adapter_name_or_path", None)
    folder = fcit_folder(given if given is None or isinstance(given, list) else [str(given)])
    if folder is None:
        raise ValueError(
            "`do_train: false` evaluates what a run has learnt; name its output folder as `adapter_name_or_path`"
            + (f", {given} is none." if given else ".")
        )
    if folder.resolve() == Path(recipe.get("output_dir", "")).resolve():
        raise ValueError(
            f"`output_dir` is the folder that is evaluated ({folder}), whose report it would replace; name another."
        )
    return folder


#: Flags behind a recipe on the command line, and the keys that they stand for.
_FLAGS = {"--dry-run": "fcit_dry_run", "dry-run": "fcit_dry_run"}


def split(args: dict[str, Any] | list[str]) -> tuple[dict | list, str | None, FcitArguments | None]:
    """Split what ``read_args`` gave into LLaMA-Factory's part and ours.

    Args:
        args: The recipe as a dictionary, or command line flags as a list.

    Returns:
        The rest with the stage of the local training in place of ours, the fcit stage (or None), the fcit arguments (or None).

    Raises:
        ValueError: A key is unknown, misspelt, or has a value that cannot work.
    """
    if isinstance(args, list):
        args = _flags_to_dict(args) if any(part.startswith("--fcit") or part in FCIT_STAGES for part in args) else args
        if isinstance(args, list):
            return args, None, None
    args = {_FLAGS.get(key, key): True if key in _FLAGS and value is None else value for key, value in args.items()}
    ours = {key: value for key, value in args.items() if key.startswith("fcit_")}
    rest = {key: value for key, value in args.items() if key not in ours}
    check_names(list(ours))
    stage = rest.get("stage")
    if stage not in FCIT_STAGES:
        if isinstance(stage, str) and stage.startswith("fcit"):
            nearest = difflib.get_close_matches(stage, FCIT_STAGES, n=1, cutoff=0.0)[0]
            raise ValueError(f"Unknown `stage: {stage}`; the nearest valid one is `{nearest}`.")
        stage = None
    if stage is None and not ours:
        return args, None, None
    check_stage(stage, list(ours))
    fcit = FcitArguments(**ours)
    if stage is not None:
        rest["stage"] = fcit.fcit_local_stage
    return rest, stage, fcit


def _flags_to_dict(args: list[str]) -> dict[str, Any]:
    """Command line flags as a dictionary, typed as in YAML: ``--key value``, ``--key=value``, and ``--key`` for true."""
    pairs: list[str] = []
    for part in args:
        if part.startswith("--"):
            pairs.append(part[2:] if "=" in part else f"{part[2:]}=true")
        elif pairs and pairs[-1].endswith("=true"):
            pairs[-1] = pairs[-1].removesuffix("true") + part
        else:
            raise ValueError(f"`{part}` is no value of a flag; give flags as --key value, or write a YAML recipe.")
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist(pairs))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"The flags after the command are no valid YAML values: {one_line(error)}; mend them.") from error


def check_seams() -> None:
    """Refuse an fcit recipe where a seam is missing: it would silently run as plain fine-tuning.

    Raises:
        ValueError: A seam could not be put in.
    """
    for module, error in autoload.FAILED.items():
        raise ValueError(f"This version of LLaMA-Factory cannot be used with fcit keys: {module} does not fit ({error}).")


def resolve_model(args: dict | list) -> None:
    """Put the folder of an embedded model in place of its name, in a recipe or among command line flags."""
    key = "model_name_or_path"
    if isinstance(args, list):
        position = args.index(f"--{key}") + 1 if f"--{key}" in args[:-1] else None
    else:
        position = key if key in args else None
    if position is not None and args[position] in EMBEDDED_MODELS:
        args[position] = EMBEDDED_MODELS[args[position]]()


def fill_in(args: dict[str, Any], stage: str, fcit: FcitArguments) -> None:
    """Say for the user what LLaMA-Factory insists on and an fcit stage implies."""
    if args.get("finetuning_type", "lora") != "lora":
        raise ValueError(
            f"`finetuning_type: {args['finetuning_type']}` cannot be used with `stage: {stage}`; "
            "subspaces are LoRA adapters, set `finetuning_type: lora`."
        )
    scenario = get_scenario(fcit.fcit_setting, fcit.fcit_stages, fcit.fcit_schedule, fcit.fcit_task_order)
    schedule = "`fcit_schedule`" if fcit.fcit_schedule else f"`fcit_setting: {fcit.fcit_setting}`"
    for number, row in enumerate(scenario.schedule):
        if len(row) > fcit.fcit_clients_per_round:
            raise ValueError(
                f"{schedule} gives stage {number} {len(row)} clients, but `fcit_clients_per_round` is "
                f"{fcit.fcit_clients_per_round}: the last ones would never be used; sample more of them."
            )
    args.setdefault("do_train", True)
    if stage != "fcit" and args.get("push_to_hub"):
        raise ValueError(f"`push_to_hub` belongs to `stage: fcit`: what `stage: {stage}` writes is for the other sites.")
    if stage == "fcit":
        if args.get("dataset"):
            raise ValueError("`dataset` is not used by `stage: fcit`; name the data sets in `fcit_stages`.")
        args["dataset"] = ",".join(scenario.all_datasets())
        partition_options(fcit)
    else:
        args.setdefault("dataset", ",".join(scenario.all_datasets()))
    if fcit.fcit_client is not None and not 0 <= fcit.fcit_client < fcit.fcit_num_clients:
        raise ValueError(
            f"`fcit_client` is {fcit.fcit_client}; with `fcit_num_clients: {fcit.fcit_num_clients}` "
            f"clients are numbered from 0 to {fcit.fcit_num_clients - 1}."
        )
    if stage == "fcit_client" and (fcit.fcit_client is None or fcit.fcit_state_dir is None):
        raise ValueError("`stage: fcit_client` needs `fcit_state_dir` (server state folder) and `fcit_client` (a number).")
    if stage == "fcit_client" and fcit.fcit_update_compression == "int8" and fcit.fcit_client_dir is None:
        raise ValueError(
            "`stage: fcit_client` with `fcit_update_compression: int8` needs `fcit_client_dir`: a folder of the client's own, "
            "empty before its first round, for what rounding took from its updates."
        )
    if stage == "fcit_aggregate" and fcit.fcit_update_dirs and fcit.fcit_state_dir is None:
        raise ValueError("`fcit_update_dirs` needs `fcit_state_dir`, the server state folder that the updates began from.")


def earlier_folder(recipe: dict[str, Any], stage: str) -> Path | None:
    """Take ``adapter_name_or_path`` out of a recipe of an fcit stage: LLaMA-Factory shall not load it.

    Args:
        recipe: LLaMA-Factory's keys; changed in place.
        stage: The fcit stage.

    Returns:
        The output folder of the run to go on from, None if there is none.

    Raises:
        ValueError: It is something else, or the stage cannot go on from it.
    """
    given = recipe.pop("adapter_name_or_path", None)
    if not given:
        return None
    if stage != "fcit":
        raise ValueError(
            f"`adapter_name_or_path` belongs to `stage: fcit`; with `stage: {stage}` name the finished folder as "
            "`fcit_state_dir`, and in `fcit_stages` put the new stages behind its own."
        )
    names = given.split(",") if isinstance(given, str) else list(given)
    folder = fcit_folder([name.strip() for name in names])
    if folder is None:
        raise ValueError(
            f"`adapter_name_or_path`: {given} is not the output folder of an fcit run, and `stage: fcit` goes on from "
            "nothing else; name one, or take the key out."
        )
    return folder


def with_folder(parsed: tuple, fcit: FcitArguments | None) -> tuple:
    """Check a command of LLaMA-Factory's own that may use an FCIT folder, and hand on what the folder wants to know.

    Args:
        parsed: LLaMA-Factory's argument objects.
        fcit: The fcit keys, None if there are none.

    Returns:
        The same objects.

    Raises:
        ValueError: A key would be ignored; the sentence names it.
    """
    model_args, data_args, finetuning_args = parsed[0], parsed[1], parsed[-2]
    folder = fcit_folder(model_args.adapter_name_or_path)
    for key in (*EXPORT_KEYS, *ROUTING_KEYS):
        value = getattr(fcit, key, None)
        if value is None or value is False:
            continue
        if folder is None:
            raise ValueError(f"`{key}` needs the output folder of an fcit run as `adapter_name_or_path`.")
        if key in EXPORT_KEYS and model_args.export_dir is None:
            raise ValueError(f"`{key}` is for `llamafactory-cli export`, which needs `export_dir`.")
        if key in ROUTING_KEYS and model_args.export_dir is not None:
            raise ValueError(f"`{key}` cannot be used for export: a merged model activates nothing; take it out.")
    if folder is None:
        return parsed
    check_seams()
    from ..state.server_state import check_state  # only now: a plain run shall not pay for it
    from .base_model import check_model

    check_model(model_args)
    check_state(folder)
    if len(parsed) == 5 and parsed[2].do_train:
        raise ValueError(
            f"`adapter_name_or_path` {folder} is the output of an fcit run: it can be used for inference and export, not "
            "to train on; take it out of the recipe."
        )
    if model_args.export_dir is None and model_args.infer_backend != EngineName.HF:
        raise ValueError(
            f"`infer_backend: {model_args.infer_backend}` knows no subspaces, so {folder} cannot be used with it; take "
            "`infer_backend: huggingface`, or `fcit-cli export-adapters` for adapters that it can load."
        )
    data_args.fcit_instructions = Instructions()
    finetuning_args.fcit_data_args = data_args
    return parsed
