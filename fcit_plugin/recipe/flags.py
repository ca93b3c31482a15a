"""Command line flags in place of a recipe: ours are typed as in YAML, LLaMA-Factory's own by its parser."""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import FcitError, one_line

#: Flags after a recipe on the command line, and the keys that they stand for.
SHORT = {"--dry-run": "fcit_dry_run", "dry-run": "fcit_dry_run"}


def ours_of_flags(args: Sequence[str]) -> tuple[list[str], str | None, dict[str, Any]]:
    """Take our flags out of a command line: ``--key value``, ``--key=value``, and ``--key`` for true.

    Returns:
        LLaMA-Factory's flags as they were given, but for the stage; its value (or None); our keys and values.

    Raises:
        FcitError: A value of ours is not YAML, or a recipe stands behind one of our flags.
    """
    theirs: list[str] = []
    ours: list[str] = []
    of_stage: list[str] = []
    last = theirs
    for part in args:
        if part.startswith("--"):
            key = part[2:].partition("=")[0]
            last = of_stage if key == "stage" else ours if key.startswith("fcit") or key in SHORT else theirs
        last.append(part)
    stage = typed_as_yaml(of_stage).get("stage")
    typed = typed_as_yaml(ours)
    for key in ("dry-run", "fcit_dry_run"):
        recipe = typed.get(key)
        if isinstance(recipe, str) and recipe.endswith((".yaml", ".yml")):
            raise FcitError(
                f"The recipe {recipe} stands behind a flag, which takes it for its value; name it first: {recipe} --dry-run."
            )
    return theirs, stage if isinstance(stage, str) else None, typed


def typed_as_yaml(args: Sequence[str]) -> dict[str, Any]:
    """Flags and their values as YAML has them.

    Raises:
        FcitError: A value is not YAML, or is that of no flag.
    """
    pairs: list[str] = []
    for part in args:
        if part.startswith("--"):
            pairs.append(part[2:] if "=" in part else f"{part[2:]}=true")
        elif pairs and pairs[-1].endswith("=true"):
            pairs[-1] = pairs[-1].removesuffix("true") + part
        else:
            raise FcitError(f"`{part}` is not a value of a flag; give flags as --key value, or write a YAML recipe.")
    try:
        return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.from_dotlist(pairs)))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise FcitError(f"The flags after the command are no valid YAML values: {one_line(error)}; fix them.") from error


def typed_by_parser(args: Sequence[str], known: Iterable[type]) -> dict[str, Any]:
    """LLaMA-Factory's flags as its own parser reads them: those that were given, by key.

    Args:
        args: The flags, none of ours among them.
        known: LLaMA-Factory's argument classes.

    Raises:
        FcitError: The parser refuses them.
    """
    from transformers import HfArgumentParser  # only now: this module is read while torch is imported

    parser = HfArgumentParser(cast("Any", list(known)))
    for action in parser._actions:
        action.default = argparse.SUPPRESS  # what is not given keeps the default of the class
    parser.error = _refuse  # type: ignore[method-assign]
    found, unknown = parser.parse_known_args(list(args))
    return {**vars(found), **typed_as_yaml(unknown)}


def glance(args: Sequence[str]) -> dict[str, Any]:
    """LLaMA-Factory's flags where its classes are not at hand: one value as YAML has it, several as texts."""
    found: dict[str, list[str]] = {}
    for part in args:
        if part.startswith("--"):
            key, equals, value = part[2:].partition("=")
            found[key] = [value] if equals else []
        elif found:
            found[next(reversed(found))].append(part)
    return {key: _as_yaml(values[0]) if len(values) == 1 else values or True for key, values in found.items()}


def _as_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _refuse(message: str) -> NoReturn:
    raise FcitError(f"The flags after the command cannot be read: {message.rstrip('.')}; fix them, or write a YAML recipe.")
