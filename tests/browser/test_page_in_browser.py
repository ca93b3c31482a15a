"""The page of a run in a browser: no width is too small, no text runs, and the keyboard is enough."""

import dataclasses
import itertools
from pathlib import Path

import pytest
from reports import matrix_of, two_stages

from fcit_plugin.evaluation.page import RunFiles, page

pytestmark = pytest.mark.browser

HOSTILE = "<script>alert(1)</script><img src=//example.org/x onerror=alert(2)>"
#: Contrast of WCAG 2.1's level AA for usual text.
CONTRAST = 4.5

CONTRASTS = (Path(__file__).parent / "contrast.js").read_text()


def run(text="red", **changes):
    stages = matrix_of({"fcit_a": 90.0}, {"fcit_a": 70.0, "fcit_b": 80.0}, {"fcit_a": 0.0, "fcit_b": 30.0})
    report = two_stages(matrix=stages, stages=[["fcit_a"], ["fcit_b"], ["fcit_a"]], **changes)
    rows = {}
    for stage, record in itertools.product((None, 0, 1, 2), range(3)):
        score = 100.0 if stage in (0, 1) else 50.0 * record
        row = {"prompt": f"{text}, what?", "predict": f"{text} {stage if record else ''}", "label": text, "dataset": "fcit_a"}
        row |= {"record": record, "restricted": False, "subspace": 0, "weights": [0.9, 0.1], "score": score}
        rows.setdefault(stage, []).append(row)
    log = [
        {"stage": stage, "client": client, "loss": 1 / (i + 1)} for stage in range(3) for client in range(4) for i in range(6)
    ]
    return RunFiles(report, log, rows)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of one run, and one of two."""
    folder, wide = tmp_path_factory.mktemp("pages"), run()
    names = [f"fcit_dataset_number_{i}" for i in range(24)]
    many = matrix_of(*({name: 4.0 * stage + i for i, name in enumerate(names)} for stage in range(12)))
    report = two_stages(
        matrix=many, stages=[names] * 12, zero_shot=dict.fromkeys(names, 1.0), encoder_choice="an encoder " * 30
    )
    given = {
        "one": {"a": wide},
        "two": {"a": wide, "another run " * 9: run(seed=4)},
        "wide": {"a": dataclasses.replace(wide, report=report)},
        "hostile": {"a": run(HOSTILE, arguments={HOSTILE: HOSTILE}, encoder_choice=HOSTILE, method=HOSTILE)},
    }
    for name, runs in given.items():
        (folder / f"{name}.html").write_text(page(runs))
    return folder


@pytest.mark.parametrize(("width", "scheme"), [*itertools.product((360, 1440), ("light", "dark"))])
@pytest.mark.parametrize("name", ["one", "two", "wide", "hostile"])
def test_a_page_fits_is_readable_and_asks_for_nothing(pages, opened, name, width, scheme):
    shown, complaints = opened(pages / f"{name}.html", viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.evaluate(CONTRASTS, CONTRAST) == []
    dark = shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    assert dark is (scheme == "dark")
    assert complaints == []
    if name == "hostile":
        assert HOSTILE in shown.inner_text("article pre >> nth=0") and shown.locator("img").count() == 0


def test_poor_contrast_would_be_seen(pages, opened):
    shown, _ = opened(pages / "one.html", color_scheme="light")
    shown.evaluate("document.querySelector('h2').style.color = '#8a8a8a'")
    assert [found.split()[0] for found in shown.evaluate(CONTRASTS, CONTRAST)] == ["H2."]


def test_with_the_keyboard_alone_stages_are_gone_through_and_answers_chosen(pages, opened):
    shown, complaints = opened(pages / "one.html")

    def visible():
        return [bar.strip() for bar in shown.locator("[data-after]:visible").all_inner_texts()]

    def tab_to(selector):
        for _ in range(60):
            shown.keyboard.press("Tab")
            if shown.evaluate("selector => document.activeElement.matches(selector)", selector):
                assert shown.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
        raise AssertionError(f"Tab does not lead to {selector}")

    tab_to("input[type=range]")
    assert visible() == ["a\n0.00\nb\n30.00"]
    shown.keyboard.press("ArrowLeft")
    assert visible() == ["a\n70.00\nb\n80.00"] and shown.inner_text("output >> nth=0") == "1"
    assert shown.locator("tr.on th").all_inner_texts() == ["stage 1"]
    shown.keyboard.press("Home")
    assert visible() == ["a\n90.00"]
    tab_to("select")
    shown.keyboard.press("ArrowDown")
    assert shown.locator("article:visible h4").all_inner_texts() == ["Record 1", "Record 2"]
    shown.keyboard.press("ArrowDown")
    assert shown.locator("article:visible h4").all_inner_texts() == ["Record 0", "Record 1"]
    tab_to("input[type=search]")
    shown.keyboard.type("RED 1")
    assert shown.locator("article:visible h4").all_inner_texts() == ["Record 1"]
    assert complaints == []


def test_a_link_opens_the_run_that_it_leads_to(pages, opened):
    shown, _ = opened(pages / "two.html")
    assert shown.locator("section[data-run] h3:visible").count() == 0
    shown.locator("nav a").last.click()
    assert shown.locator("#scores1 h3").is_visible() and not shown.locator("#scores0 h3").is_visible()


def test_without_scripts_all_is_there_but_the_slider(pages, opened):
    shown, _ = opened(pages / "one.html", java_script_enabled=False)
    assert shown.locator("input").count() == 2 and shown.locator("input:visible").count() == 0
    assert shown.locator("article:visible").count() == 3
    scores = shown.locator("table >> nth=0")
    assert "stage 2\t0.00\t30.00" in scores.inner_text()
