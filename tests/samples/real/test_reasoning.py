"""The text tasks: same seed, same files; no question on both sides; answers that the question's own words allow."""

import json
import re
from datetime import date

import pytest

from fcit_plugin.samples.real import packages
from fcit_plugin.samples.real.reasoning import TASKS, _distinct, prepare

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 + 10 records of each task."""
    folder = tmp_path_factory.mktemp("reasoning")
    try:
        prepare(folder, train=40, test=10)
    except packages.MissingPackage as error:
        pytest.skip(str(error))
    return folder


def _records(folder, name):
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def test_same_seed_same_files_other_seed_others(folder, tmp_path):
    for seed, same in ((0, True), (1, False)):
        prepare(tmp_path / str(seed), train=40, test=10, seed=seed)
        for name in TASKS:
            assert (_records(tmp_path / str(seed), name) == _records(folder, name)) is same


@pytest.mark.parametrize("name", TASKS)
def test_no_question_on_both_sides(folder, name):
    info = json.loads((folder / "dataset_info.json").read_text())
    assert {info[name]["file_name"], info[f"{name}_test"]["file_name"]} == {f"{name}.json", f"{name}_test.json"}
    train, test = ({record["instruction"] for record in _records(folder, part)} for part in (name, f"{name}_test"))
    assert (len(train), len(test)) == (40, 10) and not train & test


def test_answers_are_right(folder):
    for record in _records(folder, "reasoning_letters"):
        letter, text = re.search(r'letter "(.)" appear in the text: "(.*)"', record["instruction"]).groups()
        assert int(record["output"]) == text.lower().count(letter)
    weekdays = {date(2024, 1, day).strftime("%A") for day in range(1, 8)}
    for record in _records(folder, "reasoning_weekday"):
        assert record["output"] in weekdays
        for month, day, year in re.findall(r"\b(\d\d)/(\d\d)/(\d{4})\b", record["instruction"]):
            assert record["output"] == date(int(year), int(month), int(day)).strftime("%A")
    assert {record["output"] for record in _records(folder, "reasoning_syllogism")} == {"Yes", "No"}


def test_a_question_that_comes_again_is_left_out_and_too_few_are_refused():
    drawn = [{"question": q, "answer": a} for q, a in ((" one", "1"), ("one ", "1"), ("two", "2"))]
    assert [record["instruction"] for record in _distinct(drawn, 2, "numbers")] == ["one", "two"]
    with pytest.raises(ValueError, match="3 questions of numbers were asked for, but only 2 different ones"):
        _distinct(drawn, 3, "numbers")


def test_the_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "find_spec", lambda module: None)
    with pytest.raises(packages.MissingPackage, match=r'"reasoning-gym" is missing; .*"fcit-plugin\[reasoning\]"$'):
        prepare(tmp_path)
