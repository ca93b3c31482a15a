"""disco_plus in whole runs: trained like DISCO to the bit, activated by kinds of instructions, with own projectors."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from llamafactory.chat import ChatModel
from llamafactory.train.tuner import export_model
from peft import PeftModel
from runs import infer_args, report_of, run_recipe, weight_bytes
from safetensors.torch import load_file
from test_export_adapters import fcit_cli, run_docs
from transformers import AutoConfig, AutoModelForImageTextToText

from fcit_plugin.knowledge.activation import Router
from fcit_plugin.knowledge.encoders import make_encoder
from fcit_plugin.serving.router_files import write_router
from fcit_plugin.serving.trained import TrainedRun
from fcit_plugin.state.folder import StateFolder


@pytest.fixture(scope="module")
def outputs(text_model, text_data, tmp_path_factory):
    """A run of each method on the same data: a task of two datasets, then one of one."""
    stages, made = [["color", "letter"], ["number"]], {}
    for method in ("disco", "disco_plus"):
        output = tmp_path_factory.mktemp(method) / "out"
        keys = tiny.recipe(text_model, text_data, output, fcit_method=method, fcit_stages=stages, fcit_zero_shot=False)
        made[method] = run_recipe(keys)
    return made


def test_what_is_trained_is_disco_s_to_the_bit_and_little_more_travels(outputs):
    def weights(output):
        return {name: data for name, data in weight_bytes(output).items() if name.startswith(("subspaces", "shared"))}

    assert weights(outputs["disco"]) == weights(outputs["disco_plus"])
    reports = [report_of(outputs[method]) for method in ("disco", "disco_plus")]
    assert reports[0]["assignments"] == reports[1]["assignments"]
    assert reports[0]["bytes_up"] < reports[1]["bytes_up"] < 2 * reports[0]["bytes_up"]
    assert reports[0]["bytes_down"] == reports[1]["bytes_down"]


def test_each_subspace_knows_its_kinds_and_weighs_by_the_nearest(outputs, text_model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokens, plain = (StateFolder(outputs[method]).load().tokens for method in ("disco_plus", "disco"))
    assert plain.kinds is None and tokens.sums.tobytes() == plain.sums.tobytes()
    assert len(tokens.kinds) == tokens.num_subspaces and all(len(part.counts) for part in tokens.kinds)
    model = AutoModelForCausalLM.from_pretrained(text_model)
    router = TrainedRun.read(outputs["disco_plus"]).router(model, AutoTokenizer.from_pretrained(text_model))
    asked = np.concatenate([part.means for part in tokens.kinds])
    owners = np.repeat(np.arange(len(tokens.kinds)), [len(part.counts) for part in tokens.kinds])
    rows = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    near = np.stack([(rows @ rows[owners == k].T).max(axis=1) for k in range(len(tokens.kinds))], axis=1)
    expected = np.exp(near / 0.05) / np.exp(near / 0.05).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(router.weights_of(asked), expected, atol=1e-4)


def test_the_lines_in_the_docs_pick_the_subspace_of_the_nearest_kind(outputs, text_model, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(text_model)
    encoder = make_encoder("embedding", "mean", True, model, tiny.tokenizer())
    tokens = StateFolder(outputs["disco_plus"]).load().tokens
    names = [{"name": str(k)} for k in range(tokens.num_subspaces)]
    router = Router(encoder, tokens, "softmax", 0.05, "auto")
    write_router(tmp_path / "adapters", router, names, "base")
    pick = run_docs(tmp_path, "router")["adapter_for"]
    rows = json.loads((tmp_path / "adapters" / "router.json").read_text())["adapters"]
    assert len(rows) == sum(len(part.counts) for part in tokens.kinds) >= len(names)
    for text in ("which color is the sky", "which letter is first", "which number is next"):
        assert pick(text)[0] == str(router.weights([(text,)])[0].argmax())


def test_noise_on_tokens_is_refused_for_kinds_would_tell_what_it_hides(text_recipe):
    with pytest.raises(ValueError, match="`fcit_identity_noise` cannot be used with `fcit_method: disco_plus`"):
        run_recipe(text_recipe(fcit_method="disco_plus", fcit_identity_noise=0.1))


@pytest.fixture(scope="module")
def seeing(llava_model, image_data, tmp_path_factory):
    """A run that trains a task in each of two stages, and the projector in both; every round is kept."""
    keys = tiny.recipe(
        *(llava_model, image_data, tmp_path_factory.mktemp("seeing") / "out"),
        **{"fcit_method": "disco_plus", "freeze_multi_modal_projector": False, "save_total_limit": 0, "learning_rate": 0.01},
    )
    return keys, run_recipe(keys)


def plain(keys, output, k, dtype="auto"):
    """The base model with subspace k and the projector that the server had after the last round of stage k."""
    after = output / "checkpoints" / f"round-{keys['fcit_num_rounds'] * (k + 1):04d}"
    base = AutoModelForImageTextToText.from_pretrained(keys["model_name_or_path"], dtype=dtype)
    missing = base.load_state_dict(load_file(after / "shared.safetensors"), strict=False)
    assert not missing.unexpected_keys
    return PeftModel.from_pretrained(base, str(output / "subspaces" / str(k)))


def of_subspace(keys, output, k, dtype="auto"):
    """The answer of that model."""
    return answer(plain(keys, output, k, dtype))


def answer(model, rows=1):
    generator = torch.Generator().manual_seed(0)
    ids = torch.tensor([[1, *[model.config.image_token_id] * 4, 7, 9, 11]]).repeat(rows, 1)
    pixels = torch.randn(1, 3, 16, 16, generator=generator).repeat(rows, 1, 1, 1)
    with torch.inference_mode():
        return model.eval()(input_ids=ids, pixel_values=pixels.to(model.dtype)).logits


# as LLaMA-Factory loads a checkpoint for inference: in the precision in which it is stored
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_each_subspace_sees_with_the_projector_of_its_own_stage(seeing, dtype, atol):
    keys, output = seeing
    expected = [of_subspace(keys, output, k, dtype) for k in range(2)]
    assert (expected[0] - expected[1]).abs().max() > 10 * atol
    trained = TrainedRun.read(output)
    base = AutoModelForImageTextToText.from_pretrained(keys["model_name_or_path"], dtype=dtype)
    trained.put_shared(base)
    model, activation = trained.stacked(base)
    activation.set(torch.eye(2), image_tokens=[4, 4])
    for found, wanted in zip(answer(model, rows=2), expected, strict=True):
        torch.testing.assert_close(found, wanted[0], atol=atol, rtol=atol)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_of_images_and_text_is_answered_as_each_of_them_alone(seeing, beams):
    """Rows 0 and 2 show an image, row 1 none; with beams each row is there several times."""
    keys, output = seeing
    torch.manual_seed(0)
    shown, asked = torch.randn(2, 3, 16, 16), (1, 1, 0)
    image = AutoConfig.from_pretrained(keys["model_name_or_path"]).image_token_id
    ids = torch.tensor([[1, *[image] * 4, 7, 9, 11], [1, 5, 6, 8, 10, 7, 9, 11], [1, *[image] * 4, 11, 9, 7]])
    how = {"max_new_tokens": 5, "min_new_tokens": 5, "num_beams": beams, "do_sample": False}
    expected = []
    for row, (k, pixels) in enumerate(zip(asked, (shown[:1], None, shown[1:]), strict=True)):
        alone = plain(keys, output, k).eval()
        seen = {} if pixels is None else {"pixel_values": pixels}
        expected.append(alone.generate(input_ids=ids[row : row + 1], attention_mask=torch.ones(1, 8), **seen, **how))
    trained = TrainedRun.read(output)
    base = AutoModelForImageTextToText.from_pretrained(keys["model_name_or_path"])
    trained.put_shared(base)
    model, activation = trained.stacked(base)
    activation.set(torch.eye(2)[list(asked)], expands=True, image_tokens=[4, 0, 4])
    found = model.eval().generate(input_ids=ids, attention_mask=torch.ones(3, 8), pixel_values=shown, **how)
    assert torch.equal(found, torch.cat(expected))


@pytest.mark.parametrize("k", [0, 1])
def test_merged_and_as_an_adapter_a_subspace_brings_its_projector_along(seeing, tmp_path, k):
    keys, output = seeing
    expected = of_subspace(keys, output, k)
    export_model(
        infer_args(keys, output, export_dir=str(tmp_path / "merged"), fcit_export_weights=str(k), infer_dtype="float32")
    )
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(answer(merged), expected, atol=1e-5, rtol=1e-4)
    fcit_cli("export-adapters", output, "--out", tmp_path / "adapters")
    base = AutoModelForImageTextToText.from_pretrained(keys["model_name_or_path"])
    adapter = PeftModel.from_pretrained(base, str(tmp_path / "adapters" / f"subspace_{k}"))
    torch.testing.assert_close(answer(adapter), expected, atol=1e-5, rtol=1e-4)
    chat = ChatModel(infer_args(keys, tmp_path / "adapters" / f"subspace_{k}", infer_backend="huggingface"))
    torch.testing.assert_close(answer(chat.engine.model), expected, atol=1e-5, rtol=1e-4)


def test_left_out_on_request_for_loaders_that_know_adapters_alone(seeing, tmp_path):
    fcit_cli("export-adapters", seeing[1], "--out", tmp_path / "adapters", "--adapters-only")
    config = json.loads((tmp_path / "adapters" / "subspace_0" / "adapter_config.json").read_text())
    assert not config.get("modules_to_save")
    assert all("lora_" in key for key in load_file(tmp_path / "adapters" / "subspace_0" / "adapter_model.safetensors"))


def test_qwen_vl_s_merger_is_kept_for_each_subspace(qwen25_vl_model, image_data, tmp_path):
    """Its features are one flat list of all images' tokens; text and images are asked in one batch."""
    keys = tiny.recipe(
        *(qwen25_vl_model, image_data, tmp_path / "out"),
        **{"template": "qwen2_vl", "fcit_method": "disco_plus", "freeze_multi_modal_projector": False, "fcit_num_rounds": 1},
    )
    trained = TrainedRun.read(run_recipe(keys))
    first, second = trained.state.projectors
    assert first.keys() == second.keys() == trained.state.shared.keys() and all("merger" in key for key in first)
    assert all(torch.equal(second[key], value) for key, value in trained.state.shared.items())
    assert any(not torch.equal(first[key], second[key]) for key in first)


def test_a_chat_about_an_image_uses_them(seeing, image_data):
    """Once, in the prefill, for the tokens of the image."""
    keys, output = seeing
    chat = ChatModel(infer_args(keys, output, infer_backend="huggingface", do_sample=False))
    assert chat.engine.model.fcit_routing.activation.projectors is not None
    image = next(path for path in sorted(Path(image_data).rglob("*.png")))
    asked = []
    activation = chat.engine.model.fcit_routing.activation
    told = activation.of_image_tokens
    activation.projectors._weights_of = lambda total: asked.append((total, told(total))) or asked[-1][1]
    chat.chat([{"role": "user", "content": "<image>what color is it"}], images=[str(image)])
    [(total, weights)] = asked
    assert total == 4 and weights.shape == (4, 2) and torch.allclose(weights.sum(dim=1), torch.ones(4))
