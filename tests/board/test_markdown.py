"""What the tab hands to Markdown: a name from anywhere stands there as it is, and makes no image, link, tag or style."""

import html

import gradio as gr
import pytest
from markdown_it import MarkdownIt

from fcit_plugin.board import actions
from fcit_plugin.board.load import Loaded
from fcit_plugin.board.progress import Look
from fcit_plugin.board.run import Status
from fcit_plugin.board.show import matrix, status_line, told
from fcit_plugin.board.texts import LANGUAGES
from fcit_plugin.drafts.draft import Draft
from fcit_plugin.errors import printable
from fcit_plugin.evaluation.tables import prose

NAMES = (
    *(
        "<img src=x onerror=alert(1)>",
        "![x](http://y/z.png)",
        "[a](javascript:b)",
        "**bold**",
        "_it_",
        "`code`",
        "a`b",
        "~~gone~~",
    ),
    *(
        "http://example.org",
        "&lt;b&gt;",
        "a|b",
        "$$x$$",
        "\\*",
        "# title",
        "- item",
        "1. one",
        "a\nb",
        "x\x1b[31m",
        "<!--",
        "Köln 店",
    ),
)


def shown(markdown):
    """The text that a reader sees of Markdown, in one line; there is nothing in it but text, lists, tables, bold and code."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").parse(markdown)
    kinds = {part.type for token in tokens for part in (token, *(token.children or ()))}
    assert not {kind for kind in kinds if kind.startswith(("html", "image", "link", "em_", "s_", "heading", "hr"))}, (
        markdown,
        kinds,
    )
    found = [part.content for token in tokens if token.type == "inline" for part in token.children]
    return " ".join("".join(found).split())


def as_read(name):
    return " ".join(printable(name).split())


@pytest.mark.parametrize("name", NAMES)
def test_the_status_of_a_run_has_the_clients_name_as_it_is(name):
    line = {"current_steps": 5, "stage": 1, "round": 2, "client": 0, "total_steps": 20, "loss": 1.0}
    line |= {"elapsed_time": name, "remaining_time": "0:01"}
    for lang in LANGUAGES:
        for status in (Status.RUNNING, Status.STOPPING, Status.STOPPED):
            said = shown(status_line(status, Look(last=line, stages=4, names=(name,)), lang))
            assert said.count(as_read(name)) == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_matrix_has_the_datasets_name_as_it_is(name):
    seen = Look(datasets=[name], rows=[[50.0]])
    assert as_read(name) in shown(matrix(seen, "en"))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_of_a_recipe_has_its_names_as_they_are(name):
    recipe = Loaded({}, [name], [name], [name])
    for lang in LANGUAGES:
        for sentence in told(recipe, name, {name: None}, lang):
            assert as_read(name) in shown(f"- {sentence}")


@pytest.mark.parametrize("name", NAMES)
def test_what_was_done_for_a_recipe_has_its_names_as_they_are_and_keys_as_code(name):
    draft = Draft({})
    for sentence in (f"{name} has 3 records.", f"`val_size` keeps a part of {name} back.", f"It keeps `{name}`."):
        draft.said = []
        draft.say(sentence)
        said = actions._listed(draft)
        assert shown(said).replace("`", "") == as_read(sentence).replace("`", ""), said
    if "`" not in name:
        assert "- It keeps `" in said


@pytest.mark.parametrize("name", NAMES)
def test_a_warning_is_no_html(name, monkeypatch):
    warned = []
    monkeypatch.setattr(gr, "Warning", warned.append)
    said, _ = actions.Actions._refused(ValueError(f"{name} is none."), "en")
    assert as_read(name) in shown(said)
    assert "<" not in warned[0] and html.unescape(warned[0]).startswith(name)


@pytest.mark.parametrize(
    ("sentence", "markdown"),
    [
        ("`a` and `b*`.", "`a` and `b*`."),
        ("one ` alone *", "one &#96; alone &#42;"),
        ("two  blanks `a  b` ", "two blanks `a b`"),
        ("``", "&#96;&#96;"),
        ("# a", "&#35; a"),
        ("1. a", "1&#46; a"),
        ("- a", "&#45; a"),
        ("---", "&#45;--"),
        ("1.5 is one", "1&#46;5 is one"),
        ("", ""),
    ],
)
def test_prose_keeps_code(sentence, markdown):
    assert prose(sentence) == markdown
