"""A whole run on a tiny LLaVA: images, and the projector as a shared trainable."""

import json

import pytest
import torch
from peft import PeftModel
from runs import report_of
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from fcit_plugin.federation.folders import read_update
from fcit_plugin.federation.messages import METRICS, NUM_EXAMPLES, SHARED, to_state


def projector_of(model_folder):
    model = AutoModelForImageTextToText.from_pretrained(model_folder)
    return {name: p.detach() for name, p in model.named_parameters() if "multi_modal_projector" in name}


def test_the_projector_is_trained_and_saved_under_the_base_models_names(llava_run, llava_model):
    before, after = projector_of(llava_model), load_file(llava_run / "shared.safetensors")
    assert after.keys() == before.keys()
    assert all(not torch.equal(after[key], before[key]) for key in before)
    assert {value.dtype for value in after.values()} == {torch.float32}


def test_the_projector_is_the_weighted_average_over_all_clients_of_the_last_round(llava_run):
    replies = [read_update(path)[1] for path in sorted((llava_run / "updates").glob("stage1_round1_*"))]
    assert len(replies) == 2
    counts = [reply.content[METRICS][NUM_EXAMPLES] for reply in replies]
    parts = [to_state(reply.content[SHARED]) for reply in replies]
    for key, value in load_file(llava_run / "shared.safetensors").items():
        expected = sum(n * part[key].double() for n, part in zip(counts, parts, strict=True)) / sum(counts)
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
        assert not torch.equal(parts[0][key], parts[1][key])


def test_only_projector_and_lora_travel(llava_run, llava_model):
    _, reply = read_update(next((llava_run / "updates").iterdir()))
    assert set(reply.content[SHARED]) == projector_of(llava_model).keys()
    assert all("lora_" in key for key in reply.content["arrays"])
    assert not any("vision" in key for key in reply.content["arrays"]), "gate, up and down are in the language model alone"


def test_subspaces_follow_the_instruction_although_images_are_alike(llava_run):
    rows = report_of(llava_run)["assignments"]
    assert {(row["task"], row["subspace"]) for row in rows} == {("color", 0), ("letter", 1)}


def test_a_subspace_loads_with_plain_peft(llava_run, llava_model):
    folder = llava_run / "subspaces" / "1"
    model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(llava_model), folder)
    saved = load_file(folder / "adapter_model.safetensors")
    loaded = {n.replace(".default.", "."): p for n, p in model.named_parameters() if "lora_" in n}
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)


def test_the_manifest_names_the_shared_trainables(llava_run):
    assert json.loads((llava_run / "fcit_manifest.json").read_text())["shared"] == "shared.safetensors"


@pytest.mark.parametrize("given", [True, None])
def test_a_frozen_projector_stays_as_it_was_and_does_not_travel(llava_recipe, run, given):
    output = run(
        llava_recipe(
            freeze_multi_modal_projector=given,
            fcit_num_rounds=1,
            fcit_eval_every="never",
            fcit_keep_client_updates=True,
        )
    )
    assert not (output / "shared.safetensors").exists()
    for folder in (output / "updates").iterdir():
        assert SHARED not in read_update(folder)[1].content


def test_the_projector_may_have_its_own_learning_rate(llava_recipe, run, llava_model):
    """As good as no step for the projector, and full steps for the subspaces."""
    short = {"fcit_num_rounds": 1, "fcit_eval_every": "never", "freeze_multi_modal_projector": False}
    output = run(llava_recipe(fcit_projector_learning_rate=1e-12, **short))
    before, after = projector_of(llava_model), load_file(output / "shared.safetensors")
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, rtol=0, atol=1e-8)
    subspace = load_file(output / "subspaces" / "0" / "adapter_model.safetensors")
    assert all(value.abs().max() > 1e-4 for key, value in subspace.items() if "lora_B" in key)


def test_images_reach_the_model(llava_recipe, run, image_data, tmp_path):
    """The same run with other pictures ends in other weights."""
    import shutil

    from PIL import Image

    changed = tmp_path / "changed"
    shutil.copytree(image_data, changed)
    for path in (changed / "datasets").glob("*.png"):
        Image.new("RGB", (16, 16), (255, 255, 0)).save(path)
    short = {"fcit_num_rounds": 1, "fcit_eval_every": "never", "fcit_stages": [["color"]]}
    one = run(llava_recipe("one", **short))
    other = run(llava_recipe("other", **short) | {"dataset_dir": str(changed), "media_dir": str(changed / "datasets")})
    name = "subspaces/0/adapter_model.safetensors"
    assert (one / name).read_bytes() != (other / name).read_bytes()


def test_a_missing_image_is_named(llava_recipe, run, tmp_path):
    with pytest.raises(ValueError, match=r"Dataset `color`: color_train.json, record 0: its image .*\.png does not exist"):
        run(llava_recipe(media_dir=str(tmp_path / "nowhere")))
