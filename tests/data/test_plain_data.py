"""The FCIT datasets in a plain ``stage: sft`` run: known whatever ``dataset_dir`` is, in FCIT_DATA_DIR or `fcit_data_dir`."""

import json

import pytest
import tiny
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer


@pytest.fixture
def parse(llava_model, image_data, tmp_path, small_mini, monkeypatch):
    """LLaMA-Factory's arguments of a plain run, with FCIT_DATA_DIR set."""
    monkeypatch.setenv("FCIT_DATA_DIR", str(small_mini))

    def run(**changes):
        keys = tiny.recipe(llava_model, image_data, tmp_path / "out", stage="sft", **changes)
        return get_train_args({key: value for key, value in keys.items() if key in changes or not key.startswith("fcit_")})

    return run


def loaded(model_args, data_args, training_args, *_):
    """What LLaMA-Factory's own ``get_dataset`` gives a plain run: its records by split."""
    module = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    return get_dataset(template, model_args, data_args, training_args, stage="sft", **module)


@pytest.fixture
def load(parse):
    """The same of a recipe without any fcit key."""

    def run(**changes):
        arguments = parse(**changes)
        assert not hasattr(arguments[3], "fcit_request")
        return loaded(*arguments)

    return run


def images(split):
    return [path for row in split["images"] for path in row]


@pytest.mark.parametrize("folder", ["with_others", "empty", "absent"])
def test_known_in_any_dataset_dir(load, folder, image_data, tmp_path, small_mini):
    where = image_data if folder == "with_others" else tmp_path / folder
    if folder == "empty":
        where.mkdir()
    train = load(dataset_dir=str(where), dataset="fcit_arxivqa")["train_dataset"]
    rows = json.loads((small_mini / "instructions/ArxivQA/train_4w.json").read_text())
    assert images(train) == [str(small_mini / "datasets" / row["image"]) for row in rows]


def test_beside_data_sets_of_ones_own_and_as_evaluation_data(load, small_mini):
    found = load(dataset="color,fcit_dvqa", eval_dataset="fcit_grounding_test,color_test", max_samples=3)
    assert len(found["train_dataset"]) == 6
    assert [path.split("/")[-2] for path in images(found["train_dataset"])] == ["datasets"] * 3 + ["images"] * 3
    assert len(found["eval_dataset"]) == 6
    assert set(found["eval_dataset"].column_names) == set(found["train_dataset"].column_names)


def test_an_entry_of_ones_own_goes_before_ours(load, tmp_path):
    row = {"instruction": "say", "input": "", "output": "red"}
    (tmp_path / "mine.json").write_text(json.dumps([row]))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"fcit_arxivqa": {"file_name": "mine.json"}}))
    assert len(load(dataset_dir=str(tmp_path), dataset="fcit_arxivqa")["train_dataset"]) == 1


def test_a_root_without_the_file_is_named(load, tmp_path, monkeypatch):
    monkeypatch.setenv("FCIT_DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=f"{tmp_path}/instructions/ArxivQA/train_4w.json.*data download --root {tmp_path}"):
        load(dataset="fcit_arxivqa")


def test_each_recipe_reads_from_its_own_root(parse, small_mini, roots):
    """All three are parsed before the first is read: what one names is nothing to the others."""
    rows = json.loads((small_mini / "instructions/ArxivQA/train_4w.json").read_text())
    one, two = (parse(dataset="fcit_arxivqa", fcit_data_dir=str(root)) for root in roots)
    neither = parse(dataset="fcit_arxivqa")
    for arguments, root, count in [(two, roots[1], 2), (neither, small_mini, len(rows)), (one, roots[0], 1)]:
        assert images(loaded(*arguments)["train_dataset"]) == [str(root / "datasets" / row["image"]) for row in rows[:count]]
