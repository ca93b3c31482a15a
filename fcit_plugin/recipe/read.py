"""Reading a recipe: the file, or the flags in its place, split into LLaMA-Factory's part and ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf.errors import OmegaConfBaseException

from ..errors import one_line


def read_recipe(read, argv: Sequence[str]) -> Any:
    """Read a recipe that has to do with us.

    Args:
        read: LLaMA-Factory's ``read_args``.
        argv: The command line; a recipe comes first, overrides follow.

    Raises:
        ValueError: The file cannot be read, or it or an override is no YAML; the sentence names it.
    """
    name = argv[0] if argv else ""
    if name.endswith(".json"):
        raise ValueError(f"The recipe {name} is JSON, which LLaMA-Factory fails to read; write it as YAML.")
    try:
        return read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        what = f"recipe {name}" if mark and mark.name == str(Path(name).absolute()) else f"command line after {name}"
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"The {what} is no valid YAML: {error.problem}; mend it{where}.") from error
    except OSError as error:
        raise ValueError(f"The recipe {name} cannot be read: {error.strerror or error}; check its name.") from error
    except (TypeError, ValueError, OmegaConfBaseException) as error:
        reason = one_line(error)
        raise ValueError(f"The recipe {name} cannot be read: {reason}; it has to be keys and values in UTF-8.") from error
