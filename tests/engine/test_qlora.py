"""QLoRA: a base model in four bits by bitsandbytes, which runs on CPUs too."""

import shutil

import pytest
import tiny
import torch
from llamafactory.chat import ChatModel
from llamafactory.train.tuner import export_model
from runs import infer_args, losses_of, report_of, run_recipe, trained_alone, weight_bytes
from safetensors.torch import load_file

from fcit_plugin.adapters.four_bits import keep_unpacked
from fcit_plugin.state.checkpoints import Checkpoints

bitsandbytes = pytest.importorskip("bitsandbytes")
FOUR_BITS = {"quantization_bit": 4, "fcit_stages": [["color"]], "use_cpu": True}
WEIGHTS = "subspaces/0/adapter_model.safetensors"


def test_one_client_learns_what_llamafactory_learns_in_four_bits(text_recipe, tmp_path):
    one = {"fcit_num_clients": 1, "fcit_clients_per_round": 1, "fcit_num_rounds": 1, "fcit_eval_every": "never"}
    keys = text_recipe(**FOUR_BITS, **one)
    output_dir = run_recipe(keys)
    plain = trained_alone(keys, output_dir, tmp_path / "alone")
    assert losses_of(output_dir) == losses_of(plain)
    expected, found = load_file(plain / "adapter_model.safetensors"), load_file(output_dir / WEIGHTS)
    assert max((found[name] - value).abs().max().item() for name, value in expected.items()) < 1e-6
    in_full = run_recipe(text_recipe("full", **{**FOUR_BITS, "quantization_bit": None}, **one))
    assert losses_of(in_full) != losses_of(output_dir)


@pytest.mark.parametrize("encoder", ["auto", pytest.param("prompt", marks=pytest.mark.slow)])
def test_a_run_in_four_bits_is_evaluated_goes_on_to_the_same_bits_and_is_not_merged(text_recipe, tmp_path, encoder):
    keys = text_recipe(**FOUR_BITS, save_total_limit=0, fcit_zero_shot=False, fcit_identity_encoder=encoder)
    whole = run_recipe(keys)
    assert len(report_of(whole)["accuracy"]) == 1
    again = tmp_path / "again"
    for commit in Checkpoints(whole).commits()[:2]:
        shutil.copytree(commit, again / "checkpoints" / commit.name)
    shutil.copy(whole / "trainer_log.jsonl", again)
    gone_on = run_recipe(keys | {"output_dir": str(again)})
    assert weight_bytes(gone_on)[WEIGHTS] == weight_bytes(whole)[WEIGHTS]
    assert report_of(gone_on) == report_of(whole)
    with pytest.raises(ValueError, match=r"Cannot merge adapters to a quantized model\."):
        export_model(infer_args(keys, whole, export_dir=str(tmp_path / "merged"), quantization_bit=4))


class TestOnAProcessorWithAvx512Bf16:
    """There bitsandbytes packs what is evaluated, which takes the gradient away, or fails where the widths do not fit."""

    @pytest.fixture(autouse=True)
    def packed(self, monkeypatch) -> list[torch.Size]:
        """Makes this one such a processor, whatever it is; returns the shapes of the weights that bitsandbytes packs."""
        modules, shapes = bitsandbytes.nn.modules, []
        pack = modules._convert_weight_packed_for_cpu

        def record(weight, state):
            shapes.append(state.shape)
            return pack(weight, state)

        monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
        monkeypatch.setattr(modules, "_convert_weight_packed_for_cpu", record)
        return shapes

    def test_an_evaluation_takes_nothing_from_the_training_after_it(self, packed, text_data, tmp_path):
        model = tiny.llama(tmp_path / "model", hidden_size=64, intermediate_size=128)  # all can be packed
        recipes = [
            tiny.recipe(model, text_data, tmp_path / f"zero_shot_{before}", **FOUR_BITS, fcit_zero_shot=before)
            for before in (True, False)
        ]
        evaluated_before, not_evaluated = [weight_bytes(run_recipe(keys))[WEIGHTS] for keys in recipes]
        assert evaluated_before == not_evaluated
        assert not packed

    def test_what_a_run_learned_answers_at_widths_that_cannot_be_packed(self, packed, text_data, tmp_path):
        model = tiny.llama(tmp_path / "model", hidden_size=32, intermediate_size=96)
        keys = tiny.recipe(model, text_data, tmp_path / "out", fcit_eval_every="never", **FOUR_BITS)
        chat = ChatModel(infer_args(keys, run_recipe(keys), quantization_bit=4, max_new_tokens=4))
        layer = chat.engine.model.base_model.model.model.layers[0].mlp.down_proj.base_layer
        assert isinstance(layer, bitsandbytes.nn.Linear4bit)
        assert chat.chat([{"role": "user", "content": "name the color of this square please red"}])[0].response_length
        assert not packed

    def test_a_model_that_only_answers_is_packed_where_it_can_be(self):
        sizes = [(64, 32), (192, 96), (64, 48), (32, 32), (96, 64)]
        model = torch.nn.ModuleList(bitsandbytes.nn.Linear4bit(*size) for size in sizes)
        keep_unpacked(model, trains=False)
        assert [layer.support_avx512bf16_for_cpu for layer in model] == [True, True, False, False, False]
        keep_unpacked(model, trains=True)
        assert not any(layer.support_avx512bf16_for_cpu for layer in model)
