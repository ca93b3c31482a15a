"""Training and test records are told apart by what is asked for, whatever a dataset's name ends in."""

import json

import pytest
from drafted import init, planned, questions, write
from llamafactory.hparams import get_train_args

from fcit_plugin.board.show import dataset_choices
from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.named import ForTest
from fcit_plugin.data.raw_files import TrainFiles
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.errors import FcitError

#: Names that end as test records' do, or nearly.
NAMES = ("blood", "blood_test", "_test", "blood_test_test", "test", "blood_tests")


@pytest.fixture
def folder(tmp_path):
    """A dataset of numbered records under each of the names, and of one question in all of them."""
    records = [{"instruction": f"which color is {i}", "output": "ab"[i % 2]} for i in range(40)]
    (tmp_path / "mine.json").write_text(json.dumps(records))
    return tmp_path


def entries(folder, *names):
    info = {name: {"file_name": "mine.json", "columns": {"prompt": "instruction", "response": "output"}} for name in names}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return info


def asked(split):
    return {turns[0] for turns in split.instructions}


@pytest.mark.parametrize("name", NAMES)
def test_no_record_is_on_both_sides(name, folder, text_recipe):
    entries(folder, name)
    keys = {"dataset_dir": str(folder), "fcit_stages": [[name]], "val_size": 0.25, "fcit_partition": "iid"}
    session = open_session(*get_train_args(text_recipe(**keys)))
    train, test = (read(name) for read in (session.pipeline.train, session.pipeline.test))
    assert (len(train), len(test), len(asked(train) | asked(test))) == (30, 10, 40)
    assert TrainFiles(session.catalogue).count(name) == 30
    dealt = {index for part in session.partition.parts(0) for index in part}
    assert dealt == set(range(30))


@pytest.mark.parametrize("name", NAMES)
def test_eval_dataset_changes_nothing_of_what_is_trained_on(name, tmp_path):
    known = {entry: {"file_name": f"{entry}.json"} for entry in (name, str(ForTest(name)), "x", "y")}
    catalogue = Catalogue(known, tests={name: "x", name.removesuffix("_test"): "y"})
    assert catalogue.entry(name)["file_name"] == f"{name}.json"
    assert catalogue.entry(ForTest(name))["file_name"] in ("x.json", "y.json")


@pytest.mark.parametrize("keys", [{}, {"val_size": 0.25}, {"eval_dataset": "x,y"}])
@pytest.mark.parametrize("order", [("blood", "blood_test"), ("blood_test", "blood")])
def test_a_dataset_and_one_with_the_name_of_its_test_are_not_both_trained_on(keys, order, folder, text_recipe):
    entries(folder, "blood", "blood_test", "blood_test_test", "x", "y")
    stages = {"dataset_dir": str(folder), "fcit_stages": [[name] for name in order]}
    with pytest.raises(FcitError, match="`blood_test` is trained on, and by its name it is the test of the dataset `blood`"):
        open_session(*get_train_args(text_recipe(**stages, **keys)))
    untested = {**stages, "fcit_eval_every": "never", "fcit_zero_shot": False}
    assert len(open_session(*get_train_args(text_recipe(**untested))).pipeline.train("blood_test")) == 40


def test_a_draft_of_a_file_named_so_keeps_its_test_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write("blood_test.json", questions(40))
    plan = planned(init("--data", "blood_test.json", "--test", 10))
    ((name, train, test),) = [(row["name"], row["train"], row["test"]) for row in plan["data"]]
    assert (name, train, test) == ("blood_test", 30, 10)
    write("blood.json", questions(40))
    with pytest.raises(FcitError, match="`blood_test` is trained on"):
        init("--data", "blood.json", "blood_test.json", "--overwrite")


def test_a_dataset_is_offered_for_a_stage_unless_it_is_anothers_test(folder):
    entries(folder, "blood_test")
    assert "blood_test" in dataset_choices(str(folder))
    entries(folder, "blood_test", "blood")
    assert {"blood", "blood_test"} & {*dataset_choices(str(folder))} == {"blood"}
