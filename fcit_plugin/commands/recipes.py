"""``fcit-cli recipes``: the recipes that come with the plugin, wherever it is installed."""

import argparse
from pathlib import Path

from ..errors import FcitError, nearest
from ..shipped import shipped, shipped_recipes
from .command import Command


def first_comment(path: Path) -> str:
    """The first line of a recipe, if it is a comment: what the recipe is."""
    from ..files import read_text

    line = read_text(path).partition("\n")[0]
    return line.removeprefix("#").strip() if line.startswith("# ") else ""


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def _list(args: argparse.Namespace) -> None:
    found = shipped_recipes()
    width = max(map(len, found))
    for name, path in found.items():
        print(f"{name:{width}}  {first_comment(path)}")
    print(
        f"\nThey are in {shipped('recipes')}."
        "\nTo take one and change it:  fcit-cli recipes show NAME > mine.yaml"
        "\nTo run one:                 fcit-cli train FILE.yaml"
    )


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="as `fcit-cli recipes` lists it")


def _show(args: argparse.Namespace) -> None:
    from ..files import read_text

    found, name = shipped_recipes(), args.name.removeprefix("recipes/").removesuffix(".yaml")
    if name not in found:
        raise FcitError(f"There is no recipe {args.name!r}: {nearest(name, found)}")
    print(read_text(found[name]), end="")


RECIPES = Command("recipes", "list the recipes that come with the plugin", _no_arguments, _list)
RECIPES_SHOW = Command("recipes show", "print one of them", _name, _show)
