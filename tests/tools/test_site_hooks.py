"""What the site makes of links that leave docs/, and what it warns of; the site itself is built by ``.ci/checks site``."""

import re

import pytest
from runs import ROOT

from tools.site_hooks import faults, without_outer_links


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[the rule](../../fcit_plugin/a/rule.py#L3)", "the rule (`fcit_plugin/a/rule.py`)"),
        ("[rule.py](../../fcit_plugin/a/rule.py)", "rule.py"),
        ("[`rule.py`](../../fcit_plugin/a/rule.py)", "`rule.py`"),
        ("[results](../../results/)", "results"),
        ("[keys](../reference/keys.md#method)", "[keys](../reference/keys.md#method)"),
        ("[here](#a) [web](https://b)", "[here](#a) [web](https://b)"),
        ("`[a](../../b.py)`", "`[a](../../b.py)`"),
        ("```\n[a](../../b.py)\n```\n[a](../../b.py)", "```\n[a](../../b.py)\n```\na (`b.py`)"),
    ],
)
def test_a_link_out_of_docs_becomes_its_text_with_the_files_name(text, shown):
    assert without_outer_links(text, "guide/page.md") == shown


def test_no_link_of_a_page_leaves_the_site():
    docs = ROOT / "docs"
    for page in docs.rglob("*.md"):
        name = page.relative_to(docs)
        left = without_outer_links(page.read_text(encoding="utf-8"), name.as_posix())
        for target in re.findall(r"\]\(((?:\.\./)+[^)#\s]+)", re.sub(r"```.*?```|(?<!\[)`[^`\n]*`", "", left, flags=re.DOTALL)):
            assert (page.parent / target).resolve().is_relative_to(docs), f"{name}: {target}"


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/a.js">',
        '<link rel="stylesheet" href="//fonts.example/a.css">',
        "<img alt=x src='http://a/b.png'>",
        "<p>Notes:\n- one\n- two</p>",
        "<p>Notes:\n1. one</p>",
    ],
)
def test_what_is_warned_of(html):
    assert len(faults(html)) == 1


def test_what_is_not_warned_of():
    assert faults('<a href="https://a">a</a><img src="b.png"><script src="../c.js"></script><p>a - b\nc</p>') == []
