"""Every trained parameter belongs to a subspace or to the shared trainables, and every weight that is written is there."""

import ast
import json
from pathlib import Path

import pytest
import torch
from accelerate import disk_offload
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
from peft import LoraConfig, get_peft_model
from runs import run_recipe
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

import fcit_plugin
from fcit_plugin.adapters.base_weights import add_to
from fcit_plugin.adapters.lora import check_owners, lora_parameters, read_subspace, shared_parameters, write_subspace
from fcit_plugin.adapters.stacked import attach
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.errors import FcitError
from fcit_plugin.serving.trained import TrainedRun

#: What LLaMA-Factory would train beside LoRA on linear layers, and what the sentence names.
OWNERLESS = {
    "LoRA on embeddings": ({"lora_target": "q_proj,embed_tokens"}, "embed_tokens.*`lora_target`"),
    "new tokens": ({"add_tokens": "<new>"}, "`add_tokens` cannot be used"),
    "new special tokens": ({"add_special_tokens": "<a>,<b>"}, "`add_special_tokens` cannot be used"),
    "a vocabulary to resize": ({"resize_vocab": True}, "`resize_vocab`"),
    "whole modules": ({"additional_target": "lm_head"}, "`additional_target`"),
}


@pytest.mark.parametrize("dry", [False, True], ids=["run", "dry run"])
@pytest.mark.parametrize("case", [*OWNERLESS, "described tokens"])
def test_what_would_be_trained_and_belong_to_nobody_ends_the_run_before_it_is(text_recipe, tmp_path, case, dry):
    if case == "described tokens":
        (tmp_path / "tokens.yaml").write_text(json.dumps({"<new>": "a square"}))
        changes = {"new_special_tokens_config": str(tmp_path / "tokens.yaml"), "init_special_tokens": "desc_init"}
        said = "`new_special_tokens_config` cannot be used"
    else:
        changes, said = OWNERLESS[case]
    with pytest.raises(FcitError, match=said):
        run_recipe(text_recipe(**changes, fcit_dry_run=dry))
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize("key", ["resize_vocab", "add_tokens", "add_special_tokens", "new_special_tokens_config"])
def test_a_vocabulary_that_llamafactory_resizes_once_it_has_a_tokenizer_is_refused_then(text_recipe, monkeypatch, key):
    """Whatever has led it to do so, and should the keys pass the check of the recipe."""

    def load(model_args):
        model_args.resize_vocab = True
        setattr(model_args, key, ["<new>"])
        return load_tokenizer(model_args)

    monkeypatch.setattr("fcit_plugin.engine.open_session.load_tokenizer", load)
    monkeypatch.setattr("fcit_plugin.engine.open_session.load_model", None)
    with pytest.raises(FcitError, match=f"`{key}` makes the vocabulary larger"):
        run_recipe(text_recipe())


@pytest.mark.parametrize("frozen", [True, False])
def test_all_that_trains_is_in_a_subspace_or_shared_and_in_no_two_places(llava_recipe, frozen):
    model = open_session(*get_train_args(llava_recipe(freeze_multi_modal_projector=frozen, lora_target="all"))).model
    own, shared = lora_parameters(model), shared_parameters(model)
    owned = [*own.values(), *shared.values()]
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert len(owned) == len({id(parameter) for parameter in owned})
    assert {id(parameter) for parameter in owned} == trained
    assert bool(shared) != frozen


@pytest.mark.parametrize("changes", [{"modules_to_save": ["lm_head"]}, {"trainable_token_indices": [3]}], ids=str)
def test_what_peft_trains_beside_lora_has_no_owner(peft_model, changes):
    with pytest.raises(FcitError, match="in no subspace"):
        check_owners(peft_model(**changes))


def test_a_projector_with_lora_on_it_is_shared_by_the_base_models_names(llava_recipe):
    keys = llava_recipe(freeze_multi_modal_projector=False, lora_target="q_proj,linear_1")
    model = open_session(*get_train_args(keys)).model
    assert any("multi_modal_projector" in key for key in lora_parameters(model))
    base = AutoModelForImageTextToText.from_pretrained(keys["model_name_or_path"])
    assert shared_parameters(model).keys() == {name for name, _ in base.named_parameters() if "multi_modal_projector" in name}


def test_only_one_function_writes_weights():
    """The modules of samples, which make base models, write into their own."""
    package = Path(fcit_plugin.__file__).parent
    found = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "copy_"
    ]
    assert [path for path in found if not path.startswith("samples/")] == ["adapters/lora.py"]


def put_subspace(model):
    write_subspace(model.to("meta"), read_subspace(model))


def put_base(model):
    base = model.unload().to("meta")
    add_to(base, {"model.layers.0.mlp.gate_proj.weight": torch.ones(64, 32)}, 1.0, "a folder")


@pytest.mark.parametrize("put", [put_subspace, put_base], ids=lambda put: put.__name__)
def test_nothing_is_written_where_no_weight_is(peft_model, put):
    with pytest.raises(FcitError, match=r"is offloaded .*`llamafactory-cli export`"):
        put(peft_model())


def test_a_projector_that_is_offloaded_is_refused_and_one_in_memory_is_the_trained_one(llava_run, llava_keys, tmp_path):
    trained = TrainedRun.read(llava_run)
    base = AutoModelForImageTextToText.from_pretrained(llava_keys["model_name_or_path"])
    trained.put_shared(base)
    for key, value in trained.state.shared.items():
        assert torch.equal(base.get_parameter(key), value)
    disk_offload(base.model.multi_modal_projector, str(tmp_path / "offload"), torch.device("cpu"))
    with pytest.raises(FcitError, match=r"multi_modal_projector.* is offloaded"):
        trained.put_shared(base)


def test_a_model_whose_layers_are_offloaded_answers_as_one_in_memory(text_run, text_keys, tmp_path):
    def logits(offload):
        base = AutoModelForCausalLM.from_pretrained(text_keys["model_name_or_path"]).eval()
        if offload:
            disk_offload(base.model.layers[1], str(tmp_path / "offload"), torch.device("cpu"))
        model, activation = TrainedRun.read(text_run).stacked(base)
        activation.set(torch.eye(activation.num_subspaces)[:1])
        with torch.no_grad():
            return model(torch.tensor([[1, 7, 8, 9]])).logits

    assert torch.equal(logits(offload=True), logits(offload=False))


def test_lora_on_anything_but_a_linear_layer_is_refused(peft_model):
    class Convolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(3, 3, 2)

    model = get_peft_model(nn.Sequential(Convolution()), LoraConfig(target_modules=["conv"], r=2))
    with pytest.raises(FcitError, match=r"conv is no linear layer.*`lora_target`"):
        attach(model, [read_subspace(model)])
