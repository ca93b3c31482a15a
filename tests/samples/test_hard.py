"""The datasets of the hard cases: what each pair shares, and what tells it apart."""

import json

import pytest
from PIL import Image

from fcit_plugin.samples.hard import GERMAN, MANY, write_hard_cases
from fcit_plugin.samples.mini.tasks.counting import NUMBER_WORDS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("hard")
    write_hard_cases(out, train=30, test=10, many=40)
    return out


def records(folder, name):
    rows = json.loads((folder / f"instructions/{name}/train.json").read_text(encoding="utf-8"))
    return [(row["image"], *(turn["value"].removeprefix("<image>\n") for turn in row["conversations"])) for row in rows]


def test_twins_ask_alike_and_answer_otherwise(folder):
    digits, letters = records(folder, "hard_digit"), records(folder, "hard_letter")
    assert {question.removesuffix("digit.") for _, question, _ in digits} == {
        question.removesuffix("letter.") for _, question, _ in letters
    }
    assert {answer for *_, answer in digits} <= set("01234") and {answer for *_, answer in letters} <= set("ABCDE")


def test_the_languages_share_their_answers_and_no_question(folder):
    english, german = records(folder, "hard_english"), records(folder, "hard_german")
    assert {question for _, question, _ in english} == set(GERMAN)
    assert {question for _, question, _ in german} == set(GERMAN.values())
    assert {answer for *_, answer in english + german} <= set(NUMBER_WORDS)


def test_there_are_as_many_records_as_asked_for_with_images_of_their_own(folder):
    names = ["hard_digit", "hard_letter", "hard_english", "hard_german", *(f"hard_many_{task}" for task in MANY)]
    info = json.loads((folder / "dataset_info.json").read_text())
    assert set(info) == {name + end for name in names for end in ("", "_test")}
    seen = set()
    for name in names:
        found = records(folder, name)
        assert len(found) == (40 if "many" in name else 30)
        seen |= {Image.open(folder / "datasets" / image).tobytes() for image, *_ in found}
        assert len(json.loads((folder / f"instructions/{name}/test.json").read_text())) == 10
    assert len(seen) >= 4 * 30 + 4 * 40 - 5, "drawn anew, but for chance"
