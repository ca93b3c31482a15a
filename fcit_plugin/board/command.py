"""What Preview shows: one text for a shell, which writes the recipe and starts it."""

import re
import shlex
from pathlib import Path

#: The name of the recipe in the output folder of a run that the board starts; the run writes `fcit_recipe.yaml` beside it.
RECIPE = "board_recipe.yaml"


def command(recipe: str, path: Path) -> str:
    """The command that can be pasted.

    Args:
        recipe: The recipe, as YAML.
        path: Where it is to be.
    """
    end = "END_OF_RECIPE"
    while re.search(rf"^{end}$", recipe, re.MULTILINE):
        end += "_"
    file, folder = shlex.quote(str(path)), shlex.quote(str(path.parent))
    body = recipe if recipe.endswith("\n") else f"{recipe}\n"
    return f"mkdir -p {folder}\ncat > {file} <<'{end}'\n{body}{end}\nllamafactory-cli train {file}\n"
