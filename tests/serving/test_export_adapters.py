"""``fcit-cli export-adapters``: what comes out is loaded by others as their own, and picks as the plugin does."""

import json
import math
import re
import sys

import numpy as np
import pytest
import tiny
import torch
from llamafactory.chat import ChatModel
from peft import PeftModel
from runs import ROOT, infer_args, weighted_by_peft
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, BertConfig, BertModel, set_seed

from fcit_plugin.adapters.peft_folder import fixed_adapter, write_adapter
from fcit_plugin.cli import main
from fcit_plugin.knowledge.activation import Router, cosine_matrix
from fcit_plugin.knowledge.encoders import make_encoder
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.token_forms import FORMS
from fcit_plugin.serving.router_files import write_router
from fcit_plugin.state.folder import StateFolder

IDS = torch.tensor([[1, 7, 9, 11, 13]])
TEXTS = [f"{instruction} {color}" for instruction, answers in tiny.TASKS.values() for color in answers]


def fcit_cli(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fcit-cli", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    if ended.value.code:
        raise ValueError(ended.value.code)


@pytest.fixture(scope="module")
def exported(text_run, tmp_path_factory):
    """The adapters of the text run, with a stacked one and the router."""
    out = tmp_path_factory.mktemp("adapters") / "out"
    fcit_cli("export-adapters", text_run, "--out", out, "--weights", "[0.25, -0.5]")
    return out


def logits(model, **inputs):
    with torch.inference_mode():
        return model.eval()(**inputs).logits


def base(keys, cls=AutoModelForCausalLM):
    return cls.from_pretrained(keys["model_name_or_path"])


def loads_in_vllm(folder, max_lora_rank=64):
    """What vLLM checks before it loads a folder, in our words; returns module -> (scale, A, B).

    vllm/lora/peft_helper.py at e745baf: `PEFTHelper.from_dict` (required fields), `_validate_features`,
    `validate_legal`, `__post_init__` (scale). vllm/lora/lora_model.py at 0306474: `from_local_checkpoint`;
    vllm/lora/utils.py: `parse_fine_tuned_lora_name`. https://github.com/vllm-project/vllm
    """
    config = json.loads((folder / "adapter_config.json").read_text())
    assert {"r", "lora_alpha", "target_modules"} <= config.keys()
    assert isinstance(config["r"], int) and isinstance(config["lora_alpha"], int)
    assert isinstance(config["target_modules"], (list, str))
    assert not config.get("modules_to_save") and not config.get("use_dora")
    assert config.get("bias", "none") == "none" and config["r"] <= max_lora_rank
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    layers = {}
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        module, factor = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", name).groups()
        assert module.rpartition(".")[2] in config["target_modules"]
        layers.setdefault(module, {})[factor] = tensor
    for factors in layers.values():
        assert factors["A"].shape[0] == factors["B"].shape[1] == config["r"]
    return {module: (scale, factors["A"], factors["B"]) for module, factors in layers.items()}


@pytest.mark.parametrize("name", ["subspace_0", "subspace_1", "stacked"])
def test_each_adapter_passes_vllms_checks_and_means_the_same_to_it(exported, text_keys, name):
    """What vLLM adds is scale * B A to a layer; PEFT, loading the folder, is the reference for what that should be."""
    model = PeftModel.from_pretrained(base(text_keys), str(exported / name))
    merged = dict(model.merge_and_unload().named_parameters())
    plain = dict(base(text_keys).named_parameters())
    layers = loads_in_vllm(exported / name)
    assert len(layers) == 6
    for module, (scale, a, b) in layers.items():
        expected = merged[f"{module}.weight"] - plain[f"{module}.weight"]
        torch.testing.assert_close(scale * b @ a, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("k", [0, 1])
def test_a_subspace_is_that_subspace_to_peft_and_to_llamafactory(exported, text_run, text_keys, k):
    weights = [float(k == other) for other in range(2)]
    expected = logits(weighted_by_peft(base(text_keys), text_run, weights), input_ids=IDS)
    by_peft = PeftModel.from_pretrained(base(text_keys), str(exported / f"subspace_{k}"))
    torch.testing.assert_close(logits(by_peft, input_ids=IDS), expected, atol=1e-6, rtol=1e-5)
    chat = ChatModel(infer_args(text_keys, exported / f"subspace_{k}", infer_backend="huggingface"))
    assert not hasattr(chat.engine.model, "fcit_routing")
    torch.testing.assert_close(logits(chat.engine.model, input_ids=IDS), expected, atol=1e-6, rtol=1e-5)


def test_the_stacked_adapter_is_the_weighted_sum(exported, text_run, text_keys):
    config = json.loads((exported / "stacked" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2 * text_keys["lora_rank"], 2 * text_keys["lora_alpha"])
    assert config["base_model_name_or_path"] == text_keys["model_name_or_path"]
    model = PeftModel.from_pretrained(base(text_keys), str(exported / "stacked"))
    expected = weighted_by_peft(base(text_keys), text_run, [0.25, -0.5])
    torch.testing.assert_close(logits(model, input_ids=IDS), logits(expected, input_ids=IDS), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "s"),
    [({}, 2.0), ({"use_rslora": True}, 8 / 4**0.5), ({"use_rslora": True, "r": 2}, 8 / 2**0.5), ({"lora_alpha": 1}, 0.25)],
)
@pytest.mark.parametrize("weights", [[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [-1.0, 2.0, 0.125]])
def test_a_fixed_weighting_is_one_lora_of_rank_k_r_at_any_scale(peft_model, tmp_path, changes, s, weights):
    model = peft_model(**changes)
    config = model.peft_config["default"].to_dict() | {"target_modules": ["gate_proj", "up_proj", "down_proj"]}
    config |= {"task_type": "CAUSAL_LM", "peft_type": "LORA"}
    r = config["r"]
    generator = torch.Generator().manual_seed(1)
    module = "base_model.model.model.layers.0.mlp.gate_proj"
    subspaces = [
        {
            f"{module}.lora_A.weight": torch.randn(r, 32, generator=generator),
            f"{module}.lora_B.weight": torch.randn(64, r, generator=generator),
        }
        for _ in weights
    ]
    state, changed = fixed_adapter(subspaces, weights, config)
    write_adapter(tmp_path / "one", state, changed, "base")
    ((scale, a, b),) = loads_in_vllm(tmp_path / "one").values()
    assert a.shape == (3 * r, 32)
    expected = sum(
        w * s * sub[f"{module}.lora_B.weight"] @ sub[f"{module}.lora_A.weight"]
        for w, sub in zip(weights, subspaces, strict=True)
    )
    torch.testing.assert_close(scale * b @ a, expected, atol=1e-4, rtol=1e-4)


def blocks():
    """The tested Python of docs/guide/serving.md, by name."""
    text = (ROOT / "docs" / "guide" / "serving.md").read_text()
    return dict(re.findall(r"<!-- tested: ([\w ]+) -->\n```python\n(.*?)```", text, re.DOTALL))


def run_docs(folder, *names):
    """What those lines define, run beside a folder ``adapters``."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in names:
            assert "fcit" not in blocks()[name]
            exec(compile(blocks()[name], f"docs/guide/serving.md: {name}", "exec"), found)
    return found


def test_the_lines_in_the_docs_pick_the_subspace_that_the_plugin_weighs_most(exported, text_run, text_keys, tmp_path):
    (tmp_path / "adapters").symlink_to(exported)
    adapter_for = run_docs(tmp_path, "router")["adapter_for"]
    chat = ChatModel(infer_args(text_keys, text_run, infer_backend="huggingface"))
    router = chat.engine.model.fcit_routing.router
    cosines = cosine_matrix(router.encoder.encode(TEXTS), router.tokens.tokens)
    assert set(cosines.argmax(axis=1)) == {0, 1}
    for text, row in zip(TEXTS, cosines, strict=True):
        name, cosine = adapter_for(text)
        assert name == f"subspace_{row.argmax()}"
        assert cosine == pytest.approx(row.max(), abs=2e-3)  # the table is in half precision
    described = json.loads((exported / "router.json").read_text())
    assert [adapter["tasks"] for adapter in described["adapters"]] == StateFolder(text_run).load().tasks
    assert all((exported / adapter["path"] / "adapter_config.json").is_file() for adapter in described["adapters"])


@pytest.mark.parametrize(("pooling", "center"), [("mean", True), ("eos", False)])
def test_the_lines_for_text_encoders_make_the_plugins_token(text_run, tmp_path, pooling, center):
    set_seed(0)
    fast = tiny.tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(fast), max_position_embeddings=8, pad_token_id=0, **small)).save_pretrained(
        tmp_path / "bert"
    )
    fast.save_pretrained(tmp_path / "bert")
    encoder = make_encoder(str(tmp_path / "bert"), pooling, center, None, None)
    tokens = StateFolder(text_run).load().tokens
    write_router(
        tmp_path / "adapters", Router(encoder, tokens, "softmax", 0.05, "auto"), [{"name": "a"}, {"name": "b"}], "base"
    )
    token = run_docs(tmp_path, "router", "text encoder")["identity_token"]
    for text in ("count", TEXTS[0], " ".join(TEXTS)):
        np.testing.assert_allclose(token(text).numpy(), encoder.encode([text])[0], atol=1e-5)


@pytest.mark.parametrize("name", FORMS)
def test_the_lines_in_the_docs_go_by_what_was_told_in_any_form(text_keys, tmp_path, name):
    encoder, form = make_encoder("embedding", "mean", True, base(text_keys), tiny.tokenizer()), FORMS[name]
    told = form.told(form.mixed(encoder.encode(TEXTS)))
    tokens = SubspaceTokens(3 * told, np.full(len(told), 3, np.int64))
    router = Router(encoder, tokens, "softmax", 0.05, "auto", form=form)
    adapters = [{"name": str(k)} for k in range(len(told))]
    write_router(tmp_path / "adapters", router, adapters, "base")
    adapter_for = run_docs(tmp_path, "router")["adapter_for"]
    for text, weights in zip(TEXTS, router.weights([(text,) for text in TEXTS]), strict=True):
        found, cosine = adapter_for(text)
        assert found == str(weights.argmax())
        assert min(cosine / form.left, 1) == pytest.approx(router.cosines(router.listen([(text,)])[0]).max(), abs=5e-3)


def test_an_uncentered_table_gives_the_same_cosines(text_run, text_keys, tmp_path):
    encoder = make_encoder("embedding", "mean", False, base(text_keys), tiny.tokenizer())
    tokens = StateFolder(text_run).load().tokens
    write_router(
        tmp_path / "adapters", Router(encoder, tokens, "softmax", 0.05, "auto"), [{"name": "a"}, {"name": "b"}], "base"
    )
    found = run_docs(tmp_path, "router")["adapter_for"]
    for text in TEXTS:
        cosines = cosine_matrix(encoder.encode([text]), tokens.tokens)[0]
        assert found(text) == ("ab"[cosines.argmax()], pytest.approx(cosines.max(), abs=2e-3))


def test_a_trained_projector_goes_into_a_copy_of_the_base_model(llava_run, llava_keys, tmp_path):
    with pytest.raises(ValueError, match=r"multi_modal_projector.*--base-copy DIR.*--adapters-only"):
        fcit_cli("export-adapters", llava_run, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    copied = tmp_path / "base"
    fcit_cli("export-adapters", llava_run, "--out", tmp_path / "out", "--base-copy", copied, "--no-router")
    assert not (tmp_path / "out" / "router.json").exists()
    shared = load_file(llava_run / "shared.safetensors")
    found = AutoModelForImageTextToText.from_pretrained(copied)
    original = base(llava_keys, AutoModelForImageTextToText).state_dict()
    for key, value in found.state_dict().items():
        assert torch.equal(value, shared.get(key, original[key])), key
    assert any(not torch.equal(original[key], value) for key, value in shared.items())
    adapter = tmp_path / "out" / "subspace_1"
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(copied)
    with_projector = base(llava_keys, AutoModelForImageTextToText)
    with_projector.load_state_dict(shared, strict=False)
    inputs = {
        "input_ids": torch.tensor([[1, *[found.config.image_token_id] * 4, 7, 9, 11]]),
        "pixel_values": torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
    }
    expected = logits(weighted_by_peft(with_projector, llava_run, [0.0, 1.0]), **inputs)
    got = logits(PeftModel.from_pretrained(found, str(adapter)), **inputs)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_adapters_only_leaves_the_projector_out(llava_run, llava_keys, tmp_path):
    fcit_cli("export-adapters", llava_run, "--out", tmp_path / "out", "--adapters-only", "--no-router")
    adapter = json.loads((tmp_path / "out" / "subspace_0" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == llava_keys["model_name_or_path"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base-copy", "base"], "leave --base-copy out"),
        (["--weights", "[1]"], "list of 2 weights"),
        (["--instruction", "count"], "belong together"),
        (["--weights", "auto"], "belong together"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(text_run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        fcit_cli("export-adapters", text_run, "--out", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(text_run, tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        fcit_cli("export-adapters", text_run, "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
