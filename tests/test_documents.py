"""The Markdown pages: links lead somewhere, index and site have every page, every picture is shown, quoted errors exist."""

import ast
import pydoc
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import ROOT

from fcit_plugin import hookspecs

DOCS = ROOT / "docs"
PICTURES = (".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp")
#: Folders whose files may name a page of docs/ in a docstring, a comment or a sentence.
CODE = ("fcit_plugin", "recipes", "scripts", "benchmarks")


def sources() -> list[Path]:
    """The top of the checkout, without what .gitignore names there and hidden folders."""
    ignored = {name.strip("/") for name in (ROOT / ".gitignore").read_text().split()}
    return [path for path in ROOT.iterdir() if path.name not in ignored and not path.name.startswith(".")]


def pages() -> list[Path]:
    """All Markdown files of the checkout."""
    tops = [[top] if top.is_file() else top.rglob("*.md") for top in sources()]
    return sorted(path for found in tops for path in found if path.suffix == ".md")


def prose(text: str) -> str:
    """A page without blocks of code."""
    return re.sub(r"^(```|~~~).*?^\1[^\n]*$", "", text, flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures that are not on the web."""
    text = re.sub(r"`[^`\n]*`", "", prose(page.read_text(encoding="utf-8")))
    found = re.findall(r"\]\(\s*<?([^)>\s]+)|^\[[^\]]+\]:\s*(\S+)|(?:src|href)=\"([^\"]+)\"", text, re.MULTILINE)
    for target in ("".join(parts) for parts in found):
        if not re.match(r"[a-z]+:", target):
            yield target


def place(page: Path, target: str) -> Path:
    """The file that a link leads to, which need not be there."""
    path = target.partition("#")[0]
    return (page.parent / path).resolve() if path else page


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    made: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?)[ #]*$", prose(page.read_text(encoding="utf-8")), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        made[name] = made.get(name, -1) + 1
        if made[name]:
            made[f"{name}-{made[name]}"] = 0
    return set(made)


def test_anchors_are_githubs(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Bounds: `fcit_bound`\n## A-b, c & d!\n## Twice\n```bash\n# no heading\n```\n### Twice ###\n## [Link](x.md)\n"
    )
    assert anchors(page) == {"bounds-fcit_bound", "a-b-c--d", "twice", "twice-1", "link"}


def test_links_are_found_in_prose_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        '[a](b.md#c) `[d](e)` [![f](g.png)](h.md "i")\n```\n[j](k)\n```\n<img src="l.png">\n[m]: n.md\n[o](https://p)\n'
    )
    assert list(links(page)) == ["b.md#c", "g.png", "h.md", "l.png", "n.md"]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    for target in links(page):
        there, anchor = place(page, target), target.partition("#")[2]
        assert there.exists() and there.is_relative_to(ROOT), target
        assert not target.endswith("#"), f"{target} leads to no heading"
        assert not anchor or anchor in anchors(there), target


def tables(text: str) -> Iterator[list[str]]:
    """The rows of each table of a page; one whose rows do not begin with a bar is none here."""
    rows: list[str] = []
    for line in [*prose(text).splitlines(), ""]:
        if line.lstrip().startswith("|"):
            rows.append(line.strip())
        elif rows:
            yield rows
            rows = []


def cells(row: str) -> list[str]:
    """The cells of a row; a bar with a backslash parts none, one in a span of code does."""
    return re.split(r"(?<!\\)\|", row.removeprefix("|").removesuffix("|"))


def test_tables_and_their_cells_are_found():
    text = "| a | b |\n|---|---|\n| `c \\| d` | |\n\n```\n| no |\n```\n- x\n  | e |\n  |---|\n"
    assert [[len(cells(row)) for row in rows] for rows in tables(text)] == [[2, 2, 2], [1, 1]]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_table_of_a_page_has_the_same_number_of_cells_in_each_row(page):
    for rows in tables(page.read_text(encoding="utf-8")):
        assert len(rows) > 1 and all(re.fullmatch(r" *:?-+:? *", cell) for cell in cells(rows[1])), rows[0]
        for row in rows:
            assert len(cells(row)) == len(cells(rows[0])) and row.endswith("|"), row


def test_the_index_has_every_page_once():
    index = DOCS / "index.md"
    listed = [re.fullmatch(r"- \[[^\]]+\]\((.+?)\): .+", line) for line in index.read_text().splitlines() if line[:1] == "-"]
    assert sorted(place(index, line[1]) for line in listed) == sorted(set(DOCS.rglob("*.md")) - {index})


def test_the_site_has_every_page_once():
    shown = re.findall(r"^ +- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_messages_that_the_page_of_troubles_quotes_are_said_by_the_package():
    said = set()
    for path in (ROOT / "fcit_plugin").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.add(node.value)
    cells = re.findall(r"^\| (`.+?) \| ", (DOCS / "guide" / "trouble.md").read_text(), re.MULTILINE)
    parts = [part.strip() for cell in cells for span in re.findall(r"`([^`]+)`", cell) for part in span.split("...")]
    quoted = [part for part in parts if part]
    assert len(quoted) > 25
    assert [part for part in quoted if not any(part in text for text in said)] == []


def test_every_picture_is_shown():
    shown = {place(page, target) for page in pages() for target in links(page)}
    pictures = [path for path in DOCS.rglob("*") if path.suffix in PICTURES]
    assert pictures
    assert [path for path in pictures if path not in shown] == []


def test_pages_that_code_and_recipes_name_are_there():
    for path in (path for folder in CODE for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml", ".json")):
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{path} names {name}"


def test_the_page_of_keys_is_what_the_keys_say():
    made = runpy.run_path(str(ROOT / "tools" / "keys_page.py"))
    assert made["PAGE"].read_text(encoding="utf-8") == made["render"](), "run `python tools/keys_page.py`"


def test_the_walk_through_the_example_shows_lines_that_it_has_in_their_order():
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", (DOCS / "develop" / "extending.md").read_text(), re.DOTALL)
    assert len(blocks) > 3
    for name, shown in blocks:
        there = iter((ROOT / "examples" / "fcit-mas" / name).read_text().splitlines())
        assert [line for line in shown.splitlines() if line.strip() and line not in there] == [], name


def test_what_is_said_to_be_public_is_there_and_has_every_hook():
    text = (DOCS / "develop" / "public.md").read_text()
    names = re.findall(r"`(fcit_plugin(?:\.\w+)+)`", text)
    assert names and [name for name in names if pydoc.locate(name) is None] == []
    hooks = [name for name in vars(hookspecs) if name.startswith("fcit_")]
    assert [hook for hook in hooks if f"| `{hook}` |" not in text] == []
