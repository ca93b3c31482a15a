"""An FCIT folder in the hands of LLaMA-Factory's own commands: chat, api, predict, export."""

from pathlib import Path

from llamafactory.extras.constants import EngineName

from ..arguments import EXPORT_KEYS, FOLDER_KEYS, ROUTING_KEYS, FcitArguments
from ..autoload import check_seams
from ..errors import FcitError
from ..state.folder import StateFolder
from ..state.output_folder import fcit_folder


def check_folder(model_args, trains: bool, fcit: FcitArguments | None) -> Path | None:
    """Check a command of LLaMA-Factory's own that may use an FCIT folder.

    Args:
        model_args: LLaMA-Factory's model arguments.
        trains: Whether the command trains.
        fcit: The fcit keys, None if there are none.

    Returns:
        The folder; None if there is none.

    Raises:
        FcitError: A key would be ignored, or the folder cannot be used so; the sentence names it.
    """
    folder = fcit_folder(model_args.adapter_name_or_path)
    for key in (*EXPORT_KEYS, *ROUTING_KEYS, *FOLDER_KEYS):
        value = getattr(fcit, key, None)
        if value is None or value is False:
            continue
        if folder is None:
            raise FcitError(f"`{key}` needs the output folder of an fcit run as `adapter_name_or_path`.")
        if key in EXPORT_KEYS and model_args.export_dir is None:
            raise FcitError(f"`{key}` is for `llamafactory-cli export`, which needs `export_dir`.")
        if key in ROUTING_KEYS and model_args.export_dir is not None:
            raise FcitError(f"`{key}` cannot be used for export: a merged model activates nothing; take it out.")
    if folder is None:
        return None
    check_seams()
    from .base_model import check_model  # only now: a plain run shall not pay for it

    check_model(model_args)
    StateFolder(folder).check()
    if trains:
        raise FcitError(
            f"`adapter_name_or_path` {folder} is the output of an fcit run: it can be used for inference and export, not "
            "to train on; take it out of the recipe."
        )
    if model_args.export_dir is None and model_args.infer_backend != EngineName.HF:
        raise FcitError(
            f"`infer_backend: {model_args.infer_backend}` knows no subspaces, so {folder} cannot be used with it; take "
            "`infer_backend: huggingface`, or `fcit-cli export-adapters` for adapters that it can load."
        )
    return folder
