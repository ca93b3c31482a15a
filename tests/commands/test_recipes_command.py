"""``fcit-cli recipes``: each recipe is listed with a line, and printed."""

import pytest
from runs import ROOT

from fcit_plugin.commands import COMMANDS
from fcit_plugin.commands.command import make_parser
from fcit_plugin.commands.recipes import first_comment, shipped_recipes
from fcit_plugin.errors import FcitError


def shown(capsys, *words):
    """What a verb prints."""
    args = make_parser(COMMANDS).parse_args(["recipes", *words])
    args.command.run(args)
    return capsys.readouterr().out


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_each_recipe_says_in_its_first_line_what_it_is(path, capsys):
    sentence = first_comment(path)
    assert sentence.endswith(".") and len(sentence) <= 120 and "FCIT" not in sentence[:1]
    (line,) = [line for line in shown(capsys).splitlines() if line.split()[:1] == [name_of(path)]]
    assert line.endswith(sentence)


@pytest.mark.parametrize("end", ["", ".yaml"])
@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_each_recipe_is_printed_as_it_is(path, end, capsys):
    assert shown(capsys, "show", name_of(path) + end) == path.read_text()


def name_of(path):
    return path.relative_to(ROOT / "recipes").as_posix().removesuffix(".yaml")


def test_an_unknown_one_gets_the_nearest():
    assert shipped_recipes()
    args = make_parser(COMMANDS).parse_args(["recipes", "show", "fcit_txt_tiny"])
    with pytest.raises(FcitError, match="did you mean `fcit_text_tiny`"):
        args.command.run(args)
