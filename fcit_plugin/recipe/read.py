"""Reading a recipe: the file, or the flags in its place, split into LLaMA-Factory's part and ours."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..arguments import FCIT_STAGES, FcitArguments, check_names, check_stage, current_keys
from ..arguments.network import network_defaults
from ..arguments.reasons import all_reasons
from ..errors import FcitError, closest, one_line
from ..files import read_text
from .flags import SHORT, glance, ours_of_flags, typed_by_parser
from .stage import stages_of_datasets


def read_recipe(read, argv: Sequence[str]) -> Any:
    """Read a recipe that has to do with us.

    Args:
        read: LLaMA-Factory's ``read_args``.
        argv: The command line; a recipe comes first, overrides follow.

    Raises:
        FcitError: The file cannot be read, or it or an override is not YAML; the sentence names it.
    """
    name = argv[0] if argv else ""
    if name.endswith(".json"):
        raise FcitError(f"The recipe {name} is JSON, which LLaMA-Factory fails to read; write it as YAML.")
    try:
        return read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        what = f"recipe {name}" if mark and mark.name == str(Path(name).absolute()) else f"command line after {name}"
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise FcitError(f"The {what} is not valid YAML: {error.problem}; fix it{where}.") from error
    except FcitError:
        raise
    except RecursionError as error:
        raise FcitError(f"The recipe {name} is nested too deeply; it has to be keys and values.") from error
    except OSError as error:
        raise FcitError(f"The recipe {name} cannot be read: {error.strerror or error}; check its name.") from error
    except (TypeError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = one_line(error)
        raise FcitError(f"The recipe {name} cannot be read: {reason}; it has to be keys and values in UTF-8.") from error


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, with OmegaConf's references resolved as LLaMA-Factory does.

    Raises:
        FcitError: It cannot be read.
        yaml.MarkedYAMLError: It is not YAML; see :func:`read_recipe` for this one and others.
    """
    text = io.StringIO(read_text(path, "check its name"))
    text.name = str(path.absolute())  # for the sentence on what is no YAML
    return OmegaConf.to_container(OmegaConf.load(text))


def split(
    args: dict[str, Any] | list[str], known: Iterable[type] = ()
) -> tuple[dict[str, Any] | list[str], str | None, FcitArguments | None]:
    """Split what ``read_args`` gave into LLaMA-Factory's part and ours.

    Args:
        args: The recipe as a dictionary, or command line flags as a list.
        known: LLaMA-Factory's argument classes, as which flags beside an fcit stage are read; a list without such a stage
            stays one, for LLaMA-Factory's own parser.

    Returns:
        The rest with the stage of the local training in place of ours, the fcit stage (or None), the fcit arguments (or None).

    Raises:
        FcitError: A key is unknown, misspelled, or has a value that cannot work.
    """
    rest, stage, ours = split_keys(args, known)
    fcit = None if ours is None else arguments_of(ours, stage)
    if fcit is not None and stage is not None:
        assert isinstance(rest, dict)  # flags with a stage of ours in them have become one
        rest["stage"] = fcit.fcit_local_stage
    return rest, stage, fcit


def split_keys(
    args: dict[str, Any] | list[str], known: Iterable[type] = ()
) -> tuple[dict[str, Any] | list[str], str | None, dict[str, Any] | None]:
    """The same without a look at the values: the rest, the fcit stage (or None), our keys (or None)."""
    if isinstance(args, list):
        theirs, given, ours = ours_of_flags(args)
        if given is None or not given.startswith("fcit"):
            ours = current_keys({SHORT.get(key, key): value for key, value in ours.items()})
            own_stage = [] if given is None else ["--stage", given]
            return ([*theirs, *own_stage], None, ours) if ours else (args, None, None)
        args = {**(typed_by_parser(theirs, known) if known else glance(theirs)), **ours, "stage": given}
    args = {SHORT.get(key, key): True if key in SHORT and value is None else value for key, value in args.items()}
    args = current_keys(args)
    stage = args.get("stage")
    if not isinstance(stage, str) or stage not in FCIT_STAGES:
        if isinstance(stage, str) and stage.startswith("fcit"):
            raise FcitError(
                f"Unknown `stage: {stage}` in the recipe; the nearest valid one is `{closest(stage, FCIT_STAGES)}`."
            )
        stage = None
    if stage == "fcit":
        args = stages_of_datasets(args)
    ours = {key: value for key, value in args.items() if key.startswith("fcit_")}
    if stage is None and not ours:
        return args, None, None
    return {key: value for key, value in args.items() if key not in ours}, stage, ours


def arguments_of(ours: dict[str, Any], stage: str | None) -> FcitArguments:
    """Our keys, checked.

    Args:
        ours: Keys and values.
        stage: The fcit stage.

    Raises:
        FcitError: A key is unknown, misspelled, of another stage, or has a value that cannot work.
    """
    with all_reasons():
        check_names(list(ours))
        check_stage(stage, list(ours))
        known = {item.name for item in fields(FcitArguments.joined())}
        fcit = FcitArguments(**{key: value for key, value in network_defaults(ours).items() if key in known})
    return fcit
