"""``llamafactory-cli export`` on an FCIT output folder: one plain Hugging Face model."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import tiny
import torch
from llamafactory.hparams import get_infer_args
from llamafactory.train.tuner import export_model
from runs import ROOT, fresh_process, infer_args, weighted_by_peft
from safetensors.torch import load as load_bytes
from safetensors.torch import load_file
from standin import hub_stand_in
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, LlamaForCausalLM

from fcit_plugin.errors import FcitError
from fcit_plugin.knowledge.activation import activation_weights
from fcit_plugin.knowledge.embedding import EmbeddingEncoder
from fcit_plugin.serving.load import load_fcit_folder
from fcit_plugin.state.folder import StateFolder

SCRIPT = ROOT / "tools" / "export_check.py"
IDS = torch.tensor([[1, 7, 9, 11, 13]])


def export(keys, folder, target, weights=None, **more):
    more |= {"fcit_export_weights": weights} if weights is not None else {}
    export_model(infer_args(keys, folder, export_dir=str(target), **{"infer_dtype": "float32", **more}))
    return target


def logits(model, **inputs):
    with torch.inference_mode():
        return model.eval()(**inputs).logits


def base_of(keys, cls=AutoModelForCausalLM):
    return cls.from_pretrained(keys["model_name_or_path"])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("0", [1, 0]), ("letter", [0, 1]), ("[0.25, 0.75]", [0.25, 0.75]), ([0.5, -1], [0.5, -1]), (None, [0.5, 0.5])],
)
def test_a_merged_llava_has_the_weighted_subspaces_and_the_trained_projector(
    llava_run, llava_keys, tmp_path, weights, expected
):
    merged = AutoModelForImageTextToText.from_pretrained(export(llava_keys, llava_run, tmp_path / "merged", weights))
    base = base_of(llava_keys, AutoModelForImageTextToText)
    shared = load_file(llava_run / "shared.safetensors")
    assert all("multi_modal_projector" in key for key in shared)
    base.load_state_dict(shared, strict=False)
    reference = weighted_by_peft(base, llava_run, [float(w) for w in expected])
    inputs = {
        "input_ids": torch.tensor([[1, *[merged.config.image_token_id] * 4, 7, 9, 11]]),
        "pixel_values": torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
    }
    torch.testing.assert_close(logits(merged, **inputs), logits(reference, **inputs), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("given", ["which color belongs to this square", "number"], ids=["instruction", "dataset"])
def test_auto_merges_with_what_the_instruction_or_the_data_set_activates(text_run, text_keys, text_data, tmp_path, given):
    merged = AutoModelForCausalLM.from_pretrained(
        export(
            text_keys,
            text_run,
            tmp_path / "merged",
            "auto",
            fcit_export_instruction=given,
            dataset_dir=str(text_data),
        )
    )
    base = base_of(text_keys)
    encoder = EmbeddingEncoder(base.get_input_embeddings(), tiny.tokenizer(), center=True)
    records = json.loads((text_data / "number_train.json").read_text())
    texts = [given] if given != "number" else [record["conversations"][0]["value"] for record in records]
    state = StateFolder(text_run).load()
    weights = activation_weights(
        encoder.encode(texts).mean(axis=0, keepdims=True),
        state.tokens.tokens,
        state.tokens.counts > 0,
        mode="softmax",
        temperature=0.05,
    )[0]
    assert 0.01 < weights[1] < 0.99, "the weights say nothing"
    reference = weighted_by_peft(base, text_run, weights.tolist())
    torch.testing.assert_close(logits(merged, input_ids=IDS), logits(reference, input_ids=IDS), atol=1e-5, rtol=1e-4)


def test_what_llamafactory_exports_is_there_dtype_shards_tokenizer_and_modelfile(text_run, text_keys, tmp_path):
    folder = export(text_keys, text_run, tmp_path / "merged", "0", infer_dtype="bfloat16", export_size=1)
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert AutoConfig.from_pretrained(folder).dtype == torch.bfloat16
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "Modelfile"} <= names
    assert not any("adapter" in name or "fcit" in name for name in names)
    assert "USER: {{ .Content }} ASSISTANT:" in (folder / "Modelfile").read_text()


def test_a_model_larger_than_the_export_size_is_written_in_shards(text_run, text_keys, tmp_path, monkeypatch):
    """The key counts in gigabytes: the writer is told thousandths of a percent of them here, and nothing else is changed."""
    write = LlamaForCausalLM.save_pretrained
    sizes = []

    def small(self, *args, max_shard_size, **kwargs):
        sizes.append(max_shard_size)
        return write(self, *args, max_shard_size=f"{int(max_shard_size.removesuffix('GB')) * 30}KB", **kwargs)

    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", small)
    folder = export(text_keys, text_run, tmp_path / "merged", "1", export_size=1)
    assert sizes == ["1GB"]
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(shards) > 1 and (folder / "model.safetensors.index.json").is_file()
    merged = AutoModelForCausalLM.from_pretrained(folder)
    reference = weighted_by_peft(base_of(text_keys), text_run, [0.0, 1.0])
    torch.testing.assert_close(logits(merged, input_ids=IDS), logits(reference, input_ids=IDS), atol=1e-5, rtol=1e-4)


def test_the_merged_model_goes_to_the_hub_by_llamafactorys_keys(text_run, text_keys, tmp_path):
    with hub_stand_in() as server:
        folder = export(
            text_keys, text_run, tmp_path / "merged", "0", export_hub_model_id="somebody/merged", hf_hub_token="sesame"
        )
    assert server.created[0]["name"] == "merged" and server.created[0]["organization"] == "somebody"
    pushed = load_bytes(server.files["model.safetensors"])
    kept = load_file(folder / "model.safetensors")
    assert pushed.keys() == kept.keys() and all(torch.equal(pushed[key], kept[key]) for key in kept)
    assert "tokenizer.json" in server.files and not any("adapter" in name or "fcit" in name for name in server.files)


def test_an_exported_model_answers_alike_in_a_process_that_never_imports_the_plugin(
    llava_run, llava_keys, tmp_path, monkeypatch
):
    spec = importlib.util.spec_from_file_location("export_check", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    exported = export(llava_keys, llava_run, tmp_path / "merged", "[0.75, 0.25]")
    target = tmp_path / "reference.safetensors"
    model = llava_keys["model_name_or_path"]
    arguments = ["reference", str(llava_run), "--model", model, "--weights", "[0.75, 0.25]", "--to", str(target)]
    monkeypatch.setattr(sys, "argv", ["export_check.py", *arguments])
    script.main()
    assert "pixel_values" in load_file(target)
    command = ["python", str(SCRIPT), "compare", str(exported), str(target), "--tolerance", "1e-5"]
    shown = fresh_process(command, {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}).stdout
    assert "Largest difference" in shown


def test_a_quantized_base_is_refused_before_anything_is_merged(text_run, text_keys, tmp_path):
    model_args, *_, finetuning_args, _ = get_infer_args(infer_args(text_keys, text_run, export_dir=str(tmp_path / "x")))
    base = base_of(text_keys)
    base.quantization_method = "bitsandbytes"
    with pytest.raises(ValueError, match="Cannot merge adapters to a quantized model"):
        load_fcit_folder(base, Path(text_run), model_args, finetuning_args)


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ({"fcit_export_weights": "nearest"}, ["'nearest'", "subspace from 0 to 1", "color, letter"]),
        ({"fcit_export_weights": "auto"}, ["`fcit_export_instruction`", "belong together"]),
        ({"fcit_export_instruction": "count"}, ["`fcit_export_weights: auto`", "belong together"]),
        ({"fcit_export_weights": "0", "export_dir": None}, ["`fcit_export_weights`", "`export_dir`"]),
        ({"fcit_export_weights": "0", "adapter_name_or_path": None}, ["`fcit_export_weights`", "fcit run"]),
        ({"fcit_export_weight": "0"}, ["`fcit_export_weight`", "`fcit_export_weights`"]),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(text_run, text_keys, tmp_path, more, parts):
    keys = infer_args(text_keys, text_run, export_dir=str(tmp_path / "merged")) | more
    with pytest.raises(FcitError) as caught:
        export_model({key: value for key, value in keys.items() if value is not None})
    assert [part for part in parts if part not in str(caught.value)] == []
    assert not (tmp_path / "merged").exists()
