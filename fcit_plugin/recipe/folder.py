"""An FCIT folder in the hands of LLaMA-Factory's own commands: chat, api, predict, export."""

import contextlib
import logging
from pathlib import Path
from typing import Any

from llamafactory.extras.constants import EngineName

from ..arguments import EXPORT_KEYS, FOLDER_KEYS, ROUTING_KEYS, FcitArguments
from ..autoload import check_seams
from ..errors import FcitError
from ..state.folder import StateFolder
from ..state.names import SUBSPACES, subspace_folder
from ..state.output_folder import fcit_folder, is_fcit_folder

logger = logging.getLogger(__name__)

_NO_VALUES = "an fcit run trains no values of answers; name a reward model there"
#: Keys of the model and the fine-tuning arguments that name models and adapters, but for the one that takes an FCIT folder.
_ELSEWHERE = {
    "model_name_or_path": "give the base model that the run was made with, and the folder as `adapter_name_or_path`",
    "ref_model": "merge it with `llamafactory-cli export`, and name the merged model",
    "ref_model_adapters": "merge it with `llamafactory-cli export`, and name the merged model as `ref_model`",
    "reward_model": _NO_VALUES,
    "reward_model_adapters": _NO_VALUES,
}
#: What the manifest of a run says that it has beside its subspaces.
_BESIDE = {"shared": "the projector that the run has trained", "base_change": "what the run has added to the base weights"}
#: Stages of LLaMA-Factory's whose models have a value head.
_WITH_VALUES = ("rm", "ppo")


def check_folder(parsed: Any, fcit: FcitArguments | None) -> Path | None:
    """Check a command of LLaMA-Factory's own that may use an FCIT folder.

    Args:
        parsed: LLaMA-Factory's argument objects, of a training or of an inference.
        fcit: The fcit keys, None if there are none.

    Returns:
        The folder; None if there is none.

    Raises:
        FcitError: A key would be ignored, or the folder cannot be used so; the sentence names it.
    """
    model_args = parsed.model_args
    _refuse_elsewhere(model_args, parsed.finetuning_args)
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
        _warn_of_parts(model_args)
        return None
    check_seams()
    from .base_model import check_model  # only now: a plain run shall not pay for it

    check_model(model_args)
    StateFolder(folder).check()
    training_args = getattr(parsed, "training_args", None)
    if training_args is not None and training_args.do_train:
        raise FcitError(
            f"`adapter_name_or_path` {folder} is the output of an fcit run: it can be used for inference and export, not "
            "to train on; take it out of the recipe."
        )
    if model_args.export_dir is None and model_args.infer_backend != EngineName.HF:
        raise FcitError(
            f"`infer_backend: {model_args.infer_backend}` knows no subspaces, so {folder} cannot be used with it; take "
            "`infer_backend: huggingface`, or `fcit-cli export-adapters` for adapters that it can load."
        )
    _check_use(folder, parsed, training_args)
    return folder


def _refuse_elsewhere(model_args: Any, finetuning_args: Any) -> None:
    """Refuse an FCIT folder under a key that does not take one, unless a model was exported into it."""
    for key, remedy in _ELSEWHERE.items():
        given = getattr(model_args if hasattr(model_args, key) else finetuning_args, key, None)
        for name in map(str.strip, (given or "").split(",")):
            if name and is_fcit_folder(name) and not (Path(name) / "config.json").is_file():
                raise FcitError(f"`{key}` {name} is the output of an fcit run, which is not used so; {remedy}.")


def _warn_of_parts(model_args: Any) -> None:
    """Say what one subspace of a run, taken as the plain adapter that it is, does not bring along."""
    for path in map(Path, model_args.adapter_name_or_path or ()):
        run = path.parent.parent
        if path.parent.name != SUBSPACES or not is_fcit_folder(run):
            continue
        with contextlib.suppress(FcitError):  # an adapter is one whatever the run beside it has become
            for what in [what for key, what in _BESIDE.items() if StateFolder(run).manifest[key]]:
                logger.warning(
                    f"{path} is one subspace of {run} and has not {what}, so it answers otherwise than in the run; `fcit-cli "
                    "export-adapters` writes both."
                )


def _check_use(folder: Path, parsed: Any, training_args: Any) -> None:
    """Refuse what LLaMA-Factory would do with a folder as if it were a plain adapter, and what it would do to it."""
    model_args, stage = parsed.model_args, parsed.finetuning_args.stage
    if model_args.adapter_folder is not None:
        raise FcitError(
            f"`adapter_folder: {model_args.adapter_folder}` is not looked at beside the output folder of an fcit run; take it "
            f"out, or name one subspace alone, such as `adapter_name_or_path: {folder / subspace_folder(0)}`."
        )
    if stage in _WITH_VALUES:
        raise FcitError(
            f"`stage: {stage}` asks for values of answers, which {folder} has not learned; take `stage: sft`, or an adapter "
            f"that was trained with `stage: {stage}`."
        )
    data_args = parsed.data_args
    if training_args is not None and data_args.packing and not training_args.predict_with_generate:
        key = "neat_packing" if data_args.neat_packing else "packing"
        raise FcitError(
            f"`{key}` puts several records into one row, and in {folder} each record activates its own subspaces; set "
            f"`{key}: false`."
        )
    for key, taken in (("adapter_name_or_path", folder), ("model_name_or_path", Path(model_args.model_name_or_path))):
        if model_args.export_dir is not None and Path(model_args.export_dir).resolve() == taken.resolve():
            raise FcitError(f"`export_dir` is the folder of `{key}` ({taken}), which it would overwrite; name another.")
