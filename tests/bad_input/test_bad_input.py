"""Bad input, case by case: one sentence that names the file, key or client, exit code 1, no traceback."""

import cases_data
import cases_folders
import cases_machine
import cases_recipe
import pytest
from bench import LOADING, Bench

CASES = [*cases_recipe.CASES, *cases_data.CASES, *cases_folders.CASES, *cases_machine.CASES]


@pytest.fixture
def bench(request, tmp_path, text_run, text_model):
    """A bench on the tiny Llama, or with ``images`` on the tiny LLaVA."""

    def make(images):
        kind = ("llava_model", "image_data") if images else ("text_model", "text_data")
        return Bench(tmp_path, *map(request.getfixturevalue, kind), text_run, text_model)

    return make


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_bad_input_ends_in_one_sentence(case, bench):
    made = bench(case.images)
    ended = case.run(made)
    assert ended.code == 1, ended.stderr[-3000:]
    assert len(ended.sentences) == 1, ended.stderr[-3000:]
    (sentence,) = ended.sentences
    assert [part for part in case.says if part not in sentence] == [], sentence
    assert sentence[-1] in ".?!)" and sentence[0] != "["
    assert "Traceback" not in ended.stderr + ended.stdout
    assert (LOADING in ended.stderr + ended.stdout) == case.loads
    assert case.loads or not list((made.folder / "out").rglob("*.safetensors"))


def test_the_table_is_long_and_says_each_thing_once():
    assert len(CASES) >= 50
    assert len({case.title for case in CASES}) == len(CASES)
