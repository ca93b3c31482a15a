"""What a recipe asks of the plugin: read before LLaMA-Factory parses its own keys, checked against them afterwards."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers import HfArgumentParser

from ..arguments import FcitArguments, check_names
from ..arguments.reasons import all_reasons, going_on
from ..autoload import check_seams
from ..data.instructions import Instructions
from ..errors import FcitError
from ..state.folder import StateFolder
from .bounds import bound_recipe
from .combinations import check_combination
from .devices import set_aside
from .embedded import resolve_model
from .engine import share_out
from .environment import check_environment
from .evaluation import notes, take_evaluation
from .folder import check_folder
from .read import arguments_of, split, split_keys
from .renamed import with_known_names
from .stage import earlier_folder, fill_in, folder_to_evaluate
from .stages_of_state import with_stages
from .theirs import refuse_keys, settable, without_effect
from .typed_recipe import TypedKeys
from .values import check_template, check_values
from .world import processes_of_a_step, without_world

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

logger = logging.getLogger(__name__)

#: LLaMA-Factory's keys, or command line flags that have nothing to do with us.
Keys = dict[str, Any] | list[str]


class TrainArguments(NamedTuple):
    """What LLaMA-Factory's ``get_train_args`` returns."""

    model_args: Any
    data_args: Any
    training_args: Any
    finetuning_args: Any
    generating_args: Any


class InferArguments(NamedTuple):
    """What LLaMA-Factory's ``get_infer_args`` returns."""

    model_args: Any
    data_args: Any
    finetuning_args: Any
    generating_args: Any


@dataclass(frozen=True)
class DataRequest:
    """What the loader of records has to know, which sees LLaMA-Factory's data arguments alone (``data_args.fcit_request``).

    The library datasets takes a fingerprint of those arguments, so there is no more in it than changes how data is read.

    Attributes:
        data_dir: The recipe's ``fcit_data_dir``.
        instructions: Where the loader is to keep the instructions of prompts; None where nobody asks for them.
    """

    data_dir: str | None = None
    instructions: Instructions | None = None

    @staticmethod
    def of(data_args: Any) -> "DataRequest":
        """What travels on some data arguments; a request for nothing, if they are of a run without us."""
        return getattr(data_args, "fcit_request", DataRequest())


@dataclass(frozen=True)
class ModelRequest:
    """What the loader of a base model has to know, which sees LLaMA-Factory's model arguments alone.

    It travels on them as ``fcit_request``.

    Attributes:
        keeps_projector: The projector stays as it is where the rest is quantized: it is trained, or was and is put in.
    """

    keeps_projector: bool = False

    @staticmethod
    def of(model_args: Any) -> "ModelRequest":
        """What travels on some model arguments; a request for nothing, if they are of a run without us."""
        return getattr(model_args, "fcit_request", ModelRequest())


@dataclass(frozen=True)
class Request:
    """What a recipe asks of the plugin; it travels on LLaMA-Factory's fine-tuning arguments, as ``fcit_request``.

    They are the one argument object that LLaMA-Factory hands both to the workflow and to the adapter. A run without any
    ``fcit_*`` key, with a stage of LLaMA-Factory's own and without an FCIT folder carries none.

    Attributes:
        stage: The fcit stage; None for a stage or command of LLaMA-Factory's own.
        args: The fcit keys that count: those of the bound where the recipe asks for one.
        given: The fcit keys as the recipe has them.
        base_model: ``model_name_or_path`` as the recipe has it.
        own_data: The client trains on a ``dataset`` of its own.
        evaluated: The folder to evaluate with ``do_train: false``.
        earlier: The folder of the run that this one goes on from.
        sharing: How many processes share each optimizer step of a client.
        aside: What a dry run took out of LLaMA-Factory's keys, see :func:`.devices.set_aside`.
        notes: What is said of LLaMA-Factory's keys before the run begins.
        typed: The recipe as it was typed, without its secrets; None where it was no file.
        data_args: LLaMA-Factory's data arguments, for the adapter, which is not handed them.
        generating_args: Its generating arguments, for the workflows that are not.
    """

    stage: str | None
    args: FcitArguments
    given: FcitArguments
    base_model: str | None = None
    own_data: bool = False
    evaluated: Path | None = None
    earlier: Path | None = None
    sharing: int = 1
    aside: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    typed: str | None = None
    data_args: Any = None
    generating_args: Any = None

    @staticmethod
    def of(finetuning_args: Any) -> "Request | None":
        """The request that travels on some fine-tuning arguments; None if they are of a run without us."""
        return getattr(finetuning_args, "fcit_request", None)


def read_train_request(given: Keys, known: Iterable[type["DataclassInstance"]]) -> tuple[Keys, Request | None]:
    """Read what ``llamafactory-cli train`` was given.

    Args:
        given: A recipe's keys, or command line flags.
        known: LLaMA-Factory's argument classes.

    Returns:
        LLaMA-Factory's keys, and what is asked of us; None if nothing is.

    Raises:
        FcitError: A key is unknown, or has a value that cannot work; the sentence names it.
    """
    _show_help(given, known)
    keys, stage, ours = split_keys(given, known)
    if stage is None or ours is None:
        keys, stage, args = split(given, known)
        return keys, _first_request(keys, stage, args)
    assert isinstance(keys, dict)  # flags with anything of ours in them have become one
    keys, ours = with_known_names(keys, known), with_stages(ours, stage)
    check_environment()
    ignored = without_effect(keys, known, stage, ours.get("fcit_local_stage", "sft"))
    refuse_keys(keys, known)
    args = None
    with all_reasons():
        with going_on():
            args = arguments_of(ours, stage)
        keys["stage"] = "sft" if args is None else args.fcit_local_stage
        check_names(keys, (item.name for part in known for item in settable(part)))
        check_values(keys, known)
        check_template(keys.get("template"))
    assert args is not None  # or the block has raised
    request = _first_request(keys, stage, args)
    assert request is not None  # there are arguments
    with all_reasons():
        own_data = stage == "fcit_client" and "dataset" in keys
        evaluated = folder_to_evaluate(keys, stage)
        fill_in(keys, stage, args)
        earlier = earlier_folder(keys, stage)
        taken = take_evaluation(keys, args)
        counts = bound_recipe(keys, args) if args.fcit_bound else args
        sharing, said = processes_of_a_step({**keys, **ours}, stage)
        share_out(keys, args, sharing)
        keys = without_world(keys)
    aside = set_aside(keys) if args.fcit_dry_run and stage == "fcit" else {}
    return keys, replace(
        request,
        args=counts,
        own_data=own_data,
        evaluated=evaluated,
        earlier=earlier,
        sharing=sharing,
        aside=aside,
        notes=[*notes(stage, taken, ignored, args), *said],
        typed=given.typed if isinstance(given, TypedKeys) else None,
    )


def read_infer_request(given: Keys, known: Iterable[type]) -> tuple[Keys, Request | None]:
    """Read what chat, api, export and the like were given; see :func:`read_train_request`.

    Raises:
        FcitError: It names an fcit stage, too.
    """
    _show_help(given, known)
    keys, stage, args = split(given, known)
    request = _first_request(keys, stage, args)
    if stage is not None:
        raise FcitError(
            f"`stage: {stage}` is for `llamafactory-cli train`; take it and the fcit keys out, and name the run's "
            "folder as `adapter_name_or_path`."
        )
    return keys, request


def _show_help(given: Keys, known: Iterable[type]) -> None:
    """Print the help of all keys and exit, if it is asked for."""
    if isinstance(given, list) and ("-h" in given or "--help" in given):
        parts: list[Any] = [*known, FcitArguments.joined()]
        HfArgumentParser(parts).parse_args_into_dataclasses(given)


def _first_request(keys: Keys, stage: str | None, args: FcitArguments | None) -> Request | None:
    """What is asked of us as far as every command reads it; an embedded model gets its folder in LLaMA-Factory's keys."""
    base_model = keys.get("model_name_or_path") if isinstance(keys, dict) else None
    resolve_model(keys)
    if args is None:
        return None
    check_seams()
    return Request(stage, args, args, base_model)


def attach_request(request: Request | None, parsed: TrainArguments | InferArguments) -> None:
    """Check a request against what LLaMA-Factory has parsed, and put it where the seams find it.

    Args:
        request: From :func:`read_train_request` or :func:`read_infer_request`.
        parsed: LLaMA-Factory's argument objects.

    Raises:
        FcitError: Keys cannot go together, or one would be ignored; the sentence names it.
    """
    folder = None
    if request is not None and request.stage is not None:
        assert isinstance(parsed, TrainArguments)
        keeps_projector = not parsed.finetuning_args.freeze_multi_modal_projector
        check_combination(*parsed[:4], request.args, request.earlier, request.aside)
        if parsed.training_args.process_index == 0:
            for note in request.notes:
                logger.info(note)
    else:
        folder = check_folder(parsed, request.args if request is not None else None)
        if folder is None and request is None:
            return
        keeps_projector = folder is not None and bool(StateFolder(folder).manifest["shared"])
    if request is None:
        request = Request(None, FcitArguments(), FcitArguments())
    parsed.model_args.fcit_request = ModelRequest(keeps_projector)
    parsed.data_args.fcit_request = DataRequest(request.args.fcit_data_dir, Instructions() if folder is not None else None)
    parsed.finetuning_args.fcit_request = replace(request, data_args=parsed.data_args, generating_args=parsed.generating_args)
