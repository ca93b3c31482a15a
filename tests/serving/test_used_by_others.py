"""A run's folder in LLaMA-Factory's other keys and stages: used right, or refused by the key's name."""

import json
import re
import shutil

import pytest
import tiny
import torch
from llamafactory.chat import ChatModel
from llamafactory.hparams import FinetuningArguments, ModelArguments, get_infer_args, get_train_args
from llamafactory.train.tuner import export_model
from runs import infer_args, run_recipe
from transformers import AutoModelForCausalLM

from fcit_plugin.errors import FcitError
from fcit_plugin.recipe.theirs import settable
from fcit_plugin.recipe.watch import watch

#: Keys of LLaMA-Factory's by whose names a model or an adapter is named; the one that takes a run is not among them.
NAME_MODELS = [
    item.name
    for part in (ModelArguments, FinetuningArguments)
    for item in settable(part)
    if item.name.endswith(("_model", "_adapters", "_name_or_path")) and "str" in str(item.type)
    if item.name != "adapter_name_or_path"
]
QUESTIONS = [f"{tiny.TASKS[task][0]} {color}" for color in tiny.COLORS for task in ("color", "letter")]
COLUMNS = {
    "sft": {"prompt": "q", "response": "a"},
    "dpo": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "kto": {"prompt": "q", "response": "a", "kto_tag": "t"},
    "pt": {"prompt": "q"},
}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The same questions in the form of each stage."""
    folder = tmp_path_factory.mktemp("records")
    rows = [{"q": question, "a": "red", "b": "blue", "t": i % 3 == 0} for i, question in enumerate(QUESTIONS)]
    (folder / "rows.json").write_text(json.dumps(rows))
    info = {name: {"file_name": "rows.json", "ranking": name == "dpo", "columns": COLUMNS[name]} for name in COLUMNS}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture
def evaluating(text_keys, text_run, records, tmp_path):
    """Makes LLaMA-Factory's own recipes that evaluate the run's folder."""

    def make(stage, **changes):
        keys = infer_args(text_keys, text_run, stage=stage, do_eval=True, finetuning_type="lora", report_to="none")
        keys |= {"dataset_dir": str(records), "eval_dataset": stage, "cutoff_len": 64, "output_dir": str(tmp_path / "out")}
        return {**keys, "per_device_eval_batch_size": 3, "packing": False, **changes}

    return make


def test_every_key_that_names_a_model_refuses_a_run(text_keys, text_run):
    assert {"model_name_or_path", "ref_model", "ref_model_adapters", "reward_model", "reward_model_adapters"} == {*NAME_MODELS}
    plain = {key: value for key, value in infer_args(text_keys, text_run).items() if key != "adapter_name_or_path"}
    for key in NAME_MODELS:
        given = {**plain, key: str(text_run)}
        with pytest.raises(FcitError, match=f"^`{key}` {text_run} is the output of an fcit run") as caught:
            get_infer_args(given)
        assert str(caught.value).endswith(".")
        assert watch(given), "what is said comes with a traceback"


@pytest.mark.parametrize("stage", COLUMNS)
def test_records_of_every_form_are_each_weighed_by_their_own_instruction(evaluating, stage, logged):
    out = run_recipe(evaluating(stage, fcit_trace_activation=True))
    assert json.loads((out / "eval_results.json").read_text())["eval_loss"] > 0
    asked = re.findall("Activation of '([^']*)'", logged.text)
    assert {*asked} == {*QUESTIONS}
    assert len(asked) % len(QUESTIONS) == 0 and all(asked.count(question) == asked.count(asked[0]) for question in asked)


@pytest.mark.parametrize(
    ("stage", "changes", "named"),
    [
        ("sft", {"packing": True}, "`packing` puts several records"),
        ("sft", {"neat_packing": True, "packing": None}, "`neat_packing` puts several records"),
        ("pt", {"packing": None}, "`packing` puts several records"),
        ("sft", {"adapter_folder": "subspaces/0"}, "`adapter_folder: subspaces/0` is not looked at"),
        ("rm", {"eval_dataset": "dpo"}, "`stage: rm` asks for values"),
    ],
)
def test_what_has_no_meaning_for_a_run_is_refused_by_name(evaluating, stage, changes, named):
    keys = {key: value for key, value in evaluating(stage, **changes).items() if value is not None}
    with pytest.raises(FcitError, match=named):
        get_train_args(keys)


def test_packed_records_that_are_answered_are_answered_one_by_one(evaluating):
    get_train_args(evaluating("sft", packing=True, do_eval=False, do_predict=True, predict_with_generate=True))


@pytest.fixture(scope="module")
def other_base(text_keys, tmp_path_factory):
    """A model of the shape of the run's own, trained otherwise."""
    folder = tmp_path_factory.mktemp("other") / "base"
    shutil.copytree(text_keys["model_name_or_path"], folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float32"])
def test_another_base_model_of_the_same_shape_is_refused_by_every_command(
    dtype, text_keys, text_run, other_base, evaluating, tmp_path
):
    keys = infer_args({**text_keys, "model_name_or_path": str(other_base)}, text_run, infer_dtype=dtype)
    sentence = rf"`model_name_or_path` has other weights than the base model of {text_run} .*give that one\.$"
    for use in (
        lambda: ChatModel(dict(keys)),
        lambda: export_model({**keys, "export_dir": str(tmp_path / "merged")}),
        lambda: run_recipe(evaluating("sft", model_name_or_path=str(other_base))),
    ):
        with pytest.raises(FcitError, match=sentence):
            use()
    ChatModel({**keys, "model_name_or_path": text_keys["model_name_or_path"]})


def test_an_export_overwrites_neither_the_run_nor_its_base_model(text_keys, text_run):
    for key, folder in (("adapter_name_or_path", text_run), ("model_name_or_path", text_keys["model_name_or_path"])):
        with pytest.raises(FcitError, match=f"^`export_dir` is the folder of `{key}`"):
            get_infer_args(infer_args(text_keys, text_run, export_dir=f"{folder}/"))


@pytest.mark.parametrize(("beside", "told"), [(None, None), ("shared", "the projector"), ("base_change", "the base weights")])
def test_one_subspace_alone_says_what_the_run_has_beside_it(text_keys, text_run, tmp_path, beside, told, logged):
    run = shutil.copytree(text_run, tmp_path / "run")
    manifest = json.loads((run / "fcit_manifest.json").read_text())
    assert {key for key, value in manifest.items() if value and key in ("shared", "base_change")} == set()
    (run / "fcit_manifest.json").write_text(json.dumps(manifest | ({beside: f"{beside}.safetensors"} if beside else {})))
    get_infer_args(infer_args(text_keys, run / "subspaces" / "0"))
    found = [line for line in logged.text.splitlines() if "is one subspace of" in line]
    assert [told in line for line in found] == ([True] if told else [])
    (run / "fcit_manifest.json").write_text("{}")
    get_infer_args(infer_args(text_keys, run / "subspaces" / "0"))  # a plain adapter is one beside whatever run
