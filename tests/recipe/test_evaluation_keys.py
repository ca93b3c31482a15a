"""LLaMA-Factory's keys that ask for evaluation, its data keys, and how a recipe of its own becomes one of ours."""

import json
import re
import sys

import pytest
import tiny
from llamafactory.cli import main as llamafactory_main
from llamafactory.hparams import get_train_args
from PIL import Image
from runs import report_of, run_recipe, weight_bytes

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.arguments.reasons import Refusal
from fcit_plugin.commands.data_partition import partition_of
from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.named import ForTest
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.errors import FcitError


@pytest.fixture
def without_tests(text_data, tmp_path):
    """The tiny tasks without test records for `letter`."""
    folder = tiny.data(tmp_path / "data")
    info = json.loads((folder / "dataset_info.json").read_text())
    info["letters"] = info.pop("letter_test")
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def records(session, name, test):
    split = session.pipeline.test(name) if test else session.pipeline.train(name)
    return [(row["_prompt"][0]["content"], row["_response"][0]["content"]) for row in split.rows]


@pytest.mark.parametrize(("val_size", "kept"), [(0.25, 6), (5, 5), (0.01, 1)])
def test_val_size_keeps_records_back_for_the_test(text_recipe, without_tests, val_size, kept):
    """Numbered records: which of them are on which side, by seed, is seen in full."""
    path = without_tests / "letter_train.json"
    rows = json.loads(path.read_text())
    for number, row in enumerate(rows):
        row["conversations"][0]["value"] = f"which letter belongs to it {number}"
        row["site"] = number % 5
    path.write_text(json.dumps(rows))
    keys = {"dataset_dir": str(without_tests), "val_size": val_size, "fcit_partition": "iid"}
    sides = {}
    for seed in (1, 2, 1):
        session = open_session(*get_train_args(text_recipe(f"out{len(sides)}{seed}", seed=seed, **keys)))
        train, test = (records(session, "letter", part) for part in (False, True))
        assert len(test) == kept and sorted(train + test) == sorted(records_of(rows))
        assert [row for row in records_of(rows) if row in train] == train, "in their order"
        assert session.pipeline.column("letter", "site") == [int(text.split()[-1]) % 5 for text, _ in train]
        assert len(records(session, "color", True)) == 6, "what has test records keeps all of its own"
        dealt = {index for part in session.partition.parts(1) for index in part}
        assert dealt == set(range(24 - kept))
        assert sides.setdefault(seed, test) == test
        assert partition_of({**text_recipe(seed=seed, **keys)}).table([1]) == session.partition.table([1])
    assert sides[1] != sides[2]


def records_of(rows):
    return [tuple(turn["value"] for turn in row["conversations"]) for row in rows]


def test_a_run_is_evaluated_on_records_kept_back_and_never_trains_on_them(text_recipe, without_tests, run):
    output_dir = run(text_recipe(dataset_dir=str(without_tests), val_size=0.25))
    report = report_of(output_dir)
    assert [[score is None for score in row] for row in report["accuracy"]] == [[False, True], [False, False]]
    assert None not in report["accuracy"][1]


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_val_size_of_preferences_compares_with_the_better_answer(text_recipe, tmp_path, stage):
    folder = tiny.data(tmp_path / "data")
    columns = {"dpo": {"prompt": "q", "chosen": "a", "rejected": "b"}, "kto": {"prompt": "q", "response": "a", "kto_tag": "t"}}
    rows = [{"q": "name the color of this square please red", "a": "red", "b": "blue", "t": True} for _ in range(12)]
    (folder / "p.json").write_text(json.dumps(rows))
    entry = {"file_name": "p.json", "ranking": stage == "dpo", "columns": columns[stage]}
    (folder / "dataset_info.json").write_text(json.dumps({"p": entry}))
    keys = {"dataset_dir": str(folder), "fcit_stages": ["p"], "fcit_local_stage": stage, "val_size": 0.25}
    if stage == "kto":
        with pytest.raises(FcitError, match=r"`val_size` cannot make test records of the dataset p.*`kto_tag`"):
            open_session(*get_train_args(text_recipe(**keys)))
        return
    assert open_session(*get_train_args(text_recipe(**keys))).pipeline.test("p").answers == ["red"] * 3


def test_eval_dataset_names_the_test_records(text_recipe, without_tests, run):
    """The run is that with entries of the usual names."""
    named = run(text_recipe("named", dataset_dir=str(without_tests), eval_dataset="color_test,letters"))
    usual = run(text_recipe("usual"))
    assert report_of(named)["accuracy"] == report_of(usual)["accuracy"]
    assert weight_bytes(named) == weight_bytes(usual)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"eval_dataset": "letters"}, "`eval_dataset` names 1 datasets and the stages 2;.*color, letter"),
        ({"eval_dataset": "letters,color_test"}, "`eval_dataset` has color_test in the place of.* letter"),
        ({"eval_dataset": "color_test,nothing"}, "`nothing`|letter.*has no test records"),
        ({"val_size": 24}, "`val_size: 24` leaves nothing to train on of the dataset letter, which has 24 records"),
        ({}, "`letter` has no test records.*`val_size: 0.1`.*`fcit_eval_every: never`"),
        (
            {"val_size": 0.1, "fcit_eval_every": "never"},
            "`val_size` asks for evaluation, and `fcit_eval_every: never` for none",
        ),
        ({"do_eval": True, "fcit_eval_every": "never"}, "`do_eval` asks for evaluation"),
    ],
)
def test_test_records_that_cannot_be_are_refused(text_recipe, without_tests, changes, said):
    with pytest.raises(FcitError, match=said):
        open_session(*get_train_args(text_recipe(dataset_dir=str(without_tests), **changes)))


def test_entries_by_name():
    entries = {"a": {"file_name": "a"}, "b": {"file_name": "b"}, "b_test": {"file_name": "c"}}
    catalogue = Catalogue(entries, held_out=0.5, tests={"b": "a"})
    names = [part for name in ("a", "b", "none") for part in (name, ForTest(name))]
    assert [catalogue.entry_name(name) for name in names] == ["a", "a", "b", "a", "none", "none_test"]
    train, test = (catalogue.rows(name, 9, 1) for name in ("a", ForTest("a")))
    assert sorted([*train, *test]) == list(range(9)) and len(test) == 5
    assert catalogue.rows("b", 9, 1) is catalogue.rows(ForTest("b"), 9, 1) is None


EVALUATE = ({"do_eval": True}, {"eval_strategy": "steps", "eval_steps": 5}, {"predict_with_generate": True})


@pytest.mark.parametrize("asking", [*EVALUATE, EVALUATE[0] | EVALUATE[1] | EVALUATE[2]], ids=lambda keys: "+".join(keys))
def test_keys_that_ask_for_evaluation_are_taken_as_that(text_recipe, asking, logged):
    _, _, training_args, *_ = get_train_args(text_recipe(**asking))
    assert not training_args.do_eval and not training_args.predict_with_generate
    (line,) = [record.message for record in logged.records if "are answered and scored after every stage" in record.message]
    assert all(f"`{key}`" in line for key in asking if key != "eval_steps")


def test_a_run_that_is_asked_to_evaluate_is_the_run(text_recipe, run):
    asked = run(text_recipe("asked", fcit_num_rounds=1, do_eval=True, eval_strategy="epoch", predict_with_generate=True))
    assert report_of(asked) == report_of(run(text_recipe("plain", fcit_num_rounds=1)))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["a", "b"], [["a"], ["b"]]),
        (["a", ["b", "c"]], [["a"], ["b", "c"]]),
        ('["a", "b"]', [["a"], ["b"]]),
        ([["a"]], [["a"]]),
    ],
)
def test_a_bare_dataset_is_a_stage_of_its_own(given, meant):
    assert FcitArguments(fcit_setting="custom", fcit_stages=given).fcit_stages == meant


@pytest.mark.parametrize("dataset", ["color,letter", "color, letter", ["color", "letter"], "color"])
def test_datasets_without_stages_are_offered_both_ways(text_recipe, dataset):
    """What is offered can be pasted."""
    keys = text_recipe(dataset=dataset, fcit_stages=None, fcit_setting=None)
    with pytest.raises(FcitError, match=r"`dataset: color(,letter)?` does not tell `stage: fcit` what arrives when") as caught:
        get_train_args(keys)
    offered = re.findall(r"`fcit_stages: ([^`]+)`", str(caught.value))
    assert offered == (["[color]"] if dataset == "color" else ["[color, letter]", "[[color, letter]]"])
    assert "`fcit_setting: custom`" in str(caught.value)
    for line in offered:
        flags = [f"--{key}={value}" for key, value in text_recipe(fcit_stages=None).items()]
        assert get_train_args([*flags, f"--fcit_stages={line}"])[1].dataset[0] == "color"


def test_all_reasons_come_in_one_message(text_recipe):
    """LLaMA-Factory's own among them."""
    keys = text_recipe(
        streaming=True, use_dora=True, template="vicunna", fcit_temperature=0, fcit_num_client=3, lora_rank=-4, lora_rnk=3,
        dataset="color", fcit_stages=None, deepspeed="nothing.json",
    )  # fmt: skip
    with pytest.raises(Refusal) as caught:
        get_train_args(keys)
    text = str(caught.value)
    ours = ("`fcit_temperature`", "`fcit_num_clients`", "`dataset")
    for part in (*ours, "`streaming`", "`use_dora`", "`vicuna`", "`lora_rank`", "`lora_rnk`"):
        assert part in text, part
    assert len(caught.value.reasons) == 8 and text.startswith("8 things") and "\n" not in text


def test_llamafactorys_own_reason_stands_beside_ours(text_recipe):
    with pytest.raises(Refusal) as caught:
        get_train_args(text_recipe(use_dora=True, mask_history=True, train_on_prompt=True))
    assert len(caught.value.reasons) == 2 and "`mask_history` is incompatible with `train_on_prompt`." in str(caught.value)
    with pytest.raises(ValueError, match=r"^`mask_history` is incompatible with `train_on_prompt`\.$") as caught:
        get_train_args(text_recipe(mask_history=True, train_on_prompt=True))
    assert not isinstance(caught.value, Refusal), "LLaMA-Factory's own goes through as it is"


@pytest.mark.parametrize("variable", ["USE_RAY", "USE_MCA", "ACCELERATE_USE_FSDP"])
def test_variables_that_change_the_trainer_are_refused(text_recipe, monkeypatch, variable):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(FcitError, match=f"The environment variable {variable} cannot be used with the fcit stages"):
        run_recipe(text_recipe())


def test_the_new_trainer_is_refused_in_a_sentence(text_recipe, tmp_path, monkeypatch):
    recipe = tiny.write_recipe(tmp_path / "recipe.yaml", text_recipe())
    monkeypatch.setenv("USE_V1", "1")
    monkeypatch.setattr(sys, "argv", ["llamafactory-cli", "train", str(recipe)])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # it is put back after the test
    with pytest.raises(FcitError, match=r"USE_V1=1 starts LLaMA-Factory's new trainer.* unset USE_V1"):
        llamafactory_main()
    assert sys.excepthook is not sys.__excepthook__, "what the user sees is the sentence"


@pytest.mark.parametrize("source", ["image", "both"])
def test_a_record_without_text_is_accepted_where_images_tell_tasks_apart(llava_recipe, tmp_path, source):
    folder = tiny.data(tmp_path / "data", images=True)
    for split in ("train", "test"):
        path = folder / f"color_{split}.json"
        rows = json.loads(path.read_text())
        if split == "train":
            rows[0]["conversations"][0]["value"] = "<image>"
        else:
            rows[0]["text"] = ""
        path.write_text(json.dumps(rows))
    assert Image.open(folder / "datasets" / "red.png").size == (16, 16)
    keys = llava_recipe(
        dataset_dir=str(folder), media_dir=str(folder / "datasets"), fcit_stages=["color"], fcit_num_rounds=1,
        fcit_identity_source=source,
    )  # fmt: skip
    if source == "both":
        with pytest.raises(FcitError, match=r"color.*record 0: it has no instruction"):
            run_recipe(keys)
        return
    assert report_of(run_recipe(keys))["accuracy"][0][0] is not None
