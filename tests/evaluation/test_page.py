"""The page of a run: its numbers are the report's, its texts are only ever texts, and it stays small."""

import dataclasses
import html
import json
import math
import re
import time
from html.parser import HTMLParser
from itertools import product

import pytest
from reports import matrix_of, report_with, two_stages, unmeasured

from fcit_plugin.errors import FcitError
from fcit_plugin.evaluation.page import MOST_BYTES, MOST_TYPED, RunFiles, page
from fcit_plugin.evaluation.report import Report
from fcit_plugin.evaluation.rows import Prediction
from fcit_plugin.evaluation.side_by_side import compare, final_rows, summary_rows

HOSTILE = (
    "<script>alert(1)</script>",
    "</script></style></title></pre><img src=x onerror=alert(1)>",
    '"\' onmouseover=alert(1) x="',
    "{{ 7 * 7 }}{% include 'page.js' %}<!--",
    "]]>&lt;b&gt;&#0;<svg onload=alert(1)>",
    "javascript:alert(1)",
    "\u202egnp.exe \ud800 \u2028",
)


class Reading(HTMLParser):
    """What stands on a page: tags, attributes, texts, tables, and numbers by their place in the report."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts, self.numbers, self.tables = [], [], [], [], []
        self._in_cell, self._number = False, None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        given = dict(attrs)
        if tag == "data":
            self._number = [given["data-key"], given["value"], ""]
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        if tag == "data":
            self.numbers.append(tuple(self._number))
            self._number = None
        elif tag in ("th", "td"):
            self._in_cell = False

    def handle_data(self, text):
        self.texts.append(text)
        if self._number is not None:
            self._number[2] += text
        if self._in_cell:
            self.tables[-1][-1][-1] += text


def prediction(**changes) -> Prediction:
    row = {"prompt": "name red", "predict": "red", "label": "red", "dataset": "a", "record": 0, "restricted": False}
    return {**row, "subspace": 0, "weights": [0.75, 0.25], "score": 100.0, **changes}


def everything(**changes) -> Report:
    """A report in which every field has something."""
    absent = [{"stage": 0, "round": 1, "client": 2, "reason": "it failed"}]
    report = two_stages(
        privacy={"delta": 1e-5, "noise": "simulated", "total": {"epsilon": 3.0}, "rounds": [0.5, 1.5]},
        dropped=absent,
        idle=absent,
        product_errors=[{"stage": 0, "round": 0, "subspace": 0, "error": 0.1}],
        left_out={"fcit_a": 7},
        encoder_choice="minilm: why",
        arguments={"learning_rate": 0.1, "lora_target": ["q", "v"], "fcit_stages": [["a"], ["b"]], "fcit_betas": [0.5, 1]},
    )
    more = {
        "spread": {"last": 1.5},
        "clients": {"4": {"last": 75.0}},
        "engine": {"name": "process", "processes": 1, "threads": 2, "machine": "Linux"},
        "earlier": [{"stage": 0, "arguments": {"learning_rate": 0.2}}],
        "reference": "local",
        "sites": ["north", "south"],
        "client_names": ["here", "there"],
        "subspace_cosines": [[1.0, -0.25, None], [-0.25, 1.0, None], [None, None, None]],
        "site_scores": [{"site": "north", "stage": 1, "dataset": "fcit_a", "metric": "acc", "score": 60.0, "records": 10}],
    }
    return dataclasses.replace(report, **{**more, **changes})


def run(report=None) -> RunFiles:
    log = [
        {"stage": s, "client": c, "loss": 1 / (i + 1), "current_steps": i} for s, c, i in product(range(2), range(3), range(5))
    ]
    untuned = prediction(predict="blue", subspace=None, weights=[], score=0.0)
    rows = {None: [untuned], 0: [prediction(), prediction(restricted=True, predict="green", score=0.0)], 1: [prediction()]}
    return RunFiles(report or everything(), log, rows)


def leaves(value, way=()):
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, (*way, key))
    else:
        yield way, value


def numbers_of(values):
    return {
        ".".join(map(str, way)): value
        for way, value in leaves(values)
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


@pytest.mark.parametrize("report", [everything(), two_stages(), unmeasured()], ids=["everything", "usual", "unmeasured"])
def test_every_number_of_the_report_is_on_the_page_and_every_number_of_its_tables_is_the_reports(report):
    filled = [item.name for item in dataclasses.fields(report) if getattr(report, item.name) in (None, [], {})]
    assert not filled or report is not everything
    expected = numbers_of(json.loads(json.dumps(report.to_dict())))
    found = Reading(page({"run": run(report)})).numbers
    assert {key for key, _, _ in found} == expected.keys()
    for key, exact, shown in found:
        assert json.loads(exact) == expected[key], key
        read = float(shown.replace(",", ""))
        assert math.isclose(read, expected[key], rel_tol=2e-3, abs_tol=0.00501), (key, shown)


def test_nothing_in_everything_is_missing():
    report = everything()
    assert [item.name for item in dataclasses.fields(report) if getattr(report, item.name) in (None, [], {})] == []


def replaced(value, way, text):
    """The same with a text in the place of another."""
    if not way:
        return text
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[way[0]] = replaced(copy[way[0]], way[1:], text)
    return copy


def places():
    """Every place of a run's files that holds a text."""
    report = json.loads(json.dumps(everything().to_dict()))
    yield from (("report", way) for way, value in leaves(report) if isinstance(value, str))
    yield from (("report", (key,)) for key in ("zero_shot", "left_out", "arguments"))  # names as keys
    yield from (("prediction", (key,)) for key in ("prompt", "predict", "label", "dataset"))


def with_text(place, text):
    kind, way = place
    good = run()
    if kind == "prediction":
        rows = {stage: [replaced(row, way, text) for row in rows] for stage, rows in good.predictions.items()}
        return dataclasses.replace(good, predictions=rows)
    values = json.loads(json.dumps(good.report.to_dict()))
    if way in (("zero_shot",), ("left_out",), ("arguments",)):
        values[way[0]][text] = 1.0 if way[0] == "zero_shot" else 1
        if way[0] == "zero_shot":
            values["datasets"][0] = text
    else:
        values = replaced(values, way, text)
    return dataclasses.replace(good, report=Report(**values))


ALLOWED = {"id", "class", "href", "lang", "charset", "content", "name", "http-equiv", "for", "type", "min", "max", "value"}
ALLOWED |= {
    "hidden",
    "tabindex",
    "role",
    "scope",
    "open",
    "placeholder",
    "width",
    "height",
    "points",
    "cx",
    "cy",
    "r",
    "x",
    "y",
}
ALLOWED |= {"x1", "x2", "y1", "y2", "viewbox", "preserveaspectratio", "text-anchor", "aria-label", "aria-hidden", "data-key"}
ALLOWED |= {"cx", "cy", "r", "x", "y", "data-run", "data-slider", "data-after", "data-filters", "data-stage"}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_from_outside_stays_a_text_wherever_it_stands(text):
    safe = Reading(page({"run": run()}))
    cases = list(places())
    assert len(cases) > 25
    for place in cases:
        found = Reading(page({"run": with_text(place, text)}))
        assert found.tags.count("script") == 1 == found.tags.count("style"), place
        assert set(found.tags) == set(safe.tags), place
        assert {name for _, name, _ in found.attributes} <= ALLOWED, place
        assert all(value.startswith("#") for _, name, value in found.attributes if name == "href"), place
        assert "49" not in [part.strip() for part in found.texts], place


def test_several_runs_with_hostile_names_too():
    runs = {text: run(everything(seed=i)) for i, text in enumerate(HOSTILE)}
    found = Reading(page(runs))
    assert found.tags.count("script") == 1 and {name for _, name, _ in found.attributes} <= ALLOWED


def test_answers_stand_side_by_side_and_long_ones_and_images_are_short():
    long, image = "x" * 1_000_000, "<image>" * 576 + " what?"
    rows = {0: [prediction(predict=long, prompt=image)], 1: [prediction(predict="a < b\nc", score=0.0)]}
    found = Reading(page({"run": RunFiles(two_stages(), (), rows)}))
    (table,) = [table for table in found.tables if table[0] == ["after", "subspace", "answer", "score"]]
    assert [row[0] for row in table[1:]] == ["stage 0", "stage 1"]
    assert table[1][2].endswith("(of 1,000,000 letters)") and len(table[1][2]) < 1300
    assert table[2][2] == "a < b\nc" and table[2][3] == "✗ 0"
    assert "<image> \u00d7 576 what?" in found.texts


BIG = {
    "answers of a megabyte": lambda: RunFiles(
        two_stages(), (), {t: [prediction(predict="<&\"'" * 250_000, record=i) for i in range(50)] for t in range(3)}
    ),
    "many answers": lambda: RunFiles(
        two_stages(), (), {t: [prediction(predict="<" * 900, record=i) for i in range(4000)] for t in range(5)}
    ),
    "many clients and rounds": lambda: RunFiles(
        two_stages(
            assignments=[
                {"stage": i % 50, "round": i, "client": i, "subspace": i % 300, "cosine": 0.5, "task": f"task {i}"}
                for i in range(10_000)
            ],
            partition=[{"task": "a", "dataset": f"d{i}", "records": [1] * 5000} for i in range(40)],
        ),
        [{"stage": i % 50, "client": i % 999, "loss": 0.5} for i in range(20_000)],
    ),
    "many long names": lambda: RunFiles(
        report_with(
            matrix_of(*[{f"{'&' * 9000}{i}": 1.0 for i in range(300)}] * 40),
            [[f"{'&' * 9000}{i}" for i in range(200)]] * 20,
            arguments={f"{'<' * 9000}{i}": "<" * 9000 for i in range(500)},
        )
    ),
}


@pytest.mark.parametrize("name", BIG)
def test_a_page_stays_below_five_megabytes_and_is_made_in_seconds(name):
    given, begin = BIG[name](), time.monotonic()
    text = page({"run": given})
    assert len(text.encode()) < MOST_BYTES == 5_000_000
    assert time.monotonic() - begin < 10
    if given.predictions:
        assert "Record 0" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", BIG)
def test_so_does_one_of_many_runs(name):
    given = BIG[name]()
    assert len(page({f"run {i}": given for i in range(40)}).encode()) < MOST_BYTES


def test_several_runs_are_compared_and_each_is_there():
    reports = {
        f"run {seed}": two_stages(seed=seed, matrix=matrix_of({"fcit_a": 10.0 * seed, "fcit_b": 5.0})) for seed in (1, 2)
    }
    found = Reading(page({name: RunFiles(report) for name, report in reports.items()}))
    (comparison,) = compare(reports)
    for rows in (summary_rows(comparison), final_rows(comparison)):
        assert [list(row) for row in rows] in found.tables
    runs = {value for _, name, value in found.attributes if name == "data-run"}
    assert runs == set(reports)


def test_a_page_asks_for_nothing_and_allows_one_script():
    found = Reading(page({"run": run()}))
    names = {name for _, name, _ in found.attributes}
    assert not names & {"src", "srcset", "action", "style"} and not any(name.startswith("on") for name in names)
    (policy,) = [
        value for tag, name, value in found.attributes if (tag, name) == ("meta", "content") and "default-src" in value
    ]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy


def test_the_recipe_is_shown_as_it_was_typed_and_a_very_long_one_is_cut():
    text = "# <script>alert(1)</script>\nstage:   fcit\n\nfcit_beta: 0.5 # \u202e\n"
    made = page({"run": dataclasses.replace(run(), typed=text)})
    (shown,) = re.findall(r'aria-label="The recipe as it was typed">(.*?)</pre>', made, re.DOTALL)
    assert html.unescape(shown) == text.replace("\u202e", r"\u202e")
    assert "<script>alert" not in made
    long = page({"run": dataclasses.replace(run(), typed="a: 1\n" * 1_000_000)})
    assert len(long) < len(made) + MOST_TYPED + 100 and "the rest stands in the output folder" in long
    assert "As it was typed" not in page({"run": run()})


def test_cosines_that_are_no_square_are_refused():
    values = everything(subspace_cosines=[[1.0, 0.5]]).to_dict()
    with pytest.raises(FcitError, match="`subspace_cosines`: it has not as many columns as rows"):
        Report.from_dict(values)
