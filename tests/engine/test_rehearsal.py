"""What a base model cannot do is known before it is trained, and looking costs the run nothing."""

import json
import random

import numpy as np
import pytest
import tiny
import torch
from llamafactory.hparams import get_train_args
from runs import differences, outcome, report_of, run_recipe
from transformers import set_seed

from fcit_plugin.adapters.stacked import Activation
from fcit_plugin.engine import evaluator, run
from fcit_plugin.engine.client_training import LocalTrainer
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.engine.rehearsal import rehearse, rehearse_training, same_random_numbers
from fcit_plugin.errors import FcitError


@pytest.mark.parametrize("method", ["disco", "sequential"])
def test_a_run_is_the_same_to_the_bit_with_and_without_it(text_recipe, monkeypatch, method):
    keys = {"fcit_method": method, "fcit_zero_shot": False}
    with_it = outcome(run_recipe(text_recipe("with", **keys)))
    monkeypatch.setattr(run, "rehearse", lambda *args: None)
    without = outcome(run_recipe(text_recipe("without", **keys)))
    assert set(differences(with_it, without)) <= {"all_results.json", "trainer_log.jsonl"}, "times alone may differ"


def test_it_draws_no_random_number_and_leaves_the_model_as_it_was(llava_recipe):
    session = open_session(*get_train_args(llava_recipe(freeze_multi_modal_projector=False)))

    def look():
        weights = {name: (value.clone(), value.requires_grad) for name, value in session.model.named_parameters()}
        hooks = [
            (name, list(m._forward_hooks), list(m._forward_pre_hooks), m.training) for name, m in session.model.named_modules()
        ]
        return weights, hooks, (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())

    rehearse(session, session.evaluator({}))  # transformers hangs hooks of its own on the model when it first sees an image
    weights, hooks, drawn = look()
    rehearse(session, session.evaluator({}))
    weights_after, hooks_after, drawn_after = look()
    assert [pair for pair in zip(hooks, hooks_after, strict=True) if pair[0] != pair[1]] == []
    assert drawn_after == drawn
    assert weights_after.keys() == weights.keys()
    for name, (value, trained) in weights.items():
        assert torch.equal(weights_after[name][0], value) and weights_after[name][1] == trained


def test_random_numbers_are_put_back_even_if_it_fails():
    def drawn():
        return random.random(), np.random.rand(), torch.rand(1).item()

    @same_random_numbers()
    def draw_and_fail():
        drawn()
        raise KeyboardInterrupt

    set_seed(0)
    expected = drawn()
    set_seed(0)
    with pytest.raises(KeyboardInterrupt):
        draw_and_fail()
    assert drawn() == expected


@pytest.mark.parametrize("changes", [{}, {"fcit_zero_shot": False}, {"fcit_eval_every": "never"}], ids=str)
def test_a_model_that_cannot_answer_is_refused_before_anything_is_trained(text_recipe, monkeypatch, changes):
    """Here every layer flattens its tokens, and drops one."""
    trained, gate = [], Activation.gate_text
    monkeypatch.setattr(LocalTrainer, "train", lambda *args: trained.append(args))
    monkeypatch.setattr(Activation, "gate_text", lambda *args: gate(*args[:-1], args[-1].flatten(0, -2)[1:]))
    with pytest.raises(FcitError, match=r"nothing was trained\. Asked were record 0 of .*per_device_eval_batch_size: 1"):
        run_recipe(text_recipe(**changes))
    assert not trained


def test_out_of_memory_says_which_key_to_lower(text_recipe, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Activation, "gate_text", full)
    with pytest.raises(FcitError, match="lower `per_device_eval_batch_size`"):
        run_recipe(text_recipe())


def test_the_likelihood_is_tried_too_where_it_will_be_measured(text_recipe, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(evaluator, "answer_losses", full)
    with pytest.raises(FcitError, match="lower `per_device_eval_batch_size`"):
        run_recipe(text_recipe())
    for number, changes in enumerate(({"fcit_eval_likelihood": False}, {"fcit_eval_every": "never"})):
        session = open_session(*get_train_args(text_recipe(str(number), **changes)))
        rehearse(session, session.evaluator({}))


@pytest.fixture
def video_recipe(qwen25_vl_model, tmp_path):
    """Recipes on the tiny Qwen2.5-VL whose second stage has videos of two frames in its test records, behind text."""
    folder = tiny.data(tmp_path / "data", images=True)
    info = json.loads((folder / "dataset_info.json").read_text())
    for split in ("train", "test"):
        asked = [{"instruction": f"name {color}", "output": color, "videos": []} for color in ("red", "blue")]
        frames = [str(folder / "datasets" / f"{color}.png") for color in ("red", "green")]
        asked += [{"instruction": "<video>which letter", "output": answer, "videos": [frames]} for answer in ("a", "b")]
        (folder / f"film_{split}.json").write_text(json.dumps(asked * 3))
        name = "film" if split == "train" else "film_test"
        columns = {"prompt": "instruction", "response": "output", "videos": "videos"}
        info[name] = {"file_name": f"film_{split}.json", "columns": columns}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    keys = {"template": "qwen2_vl", "freeze_multi_modal_projector": False, "fcit_stages": [["color"], ["film"]]}
    keys |= {"fcit_num_rounds": 1, "fcit_eval_restricted": False, "fcit_zero_shot": False, "fcit_method": "disco_plus"}
    return lambda **changes: tiny.recipe(qwen25_vl_model, folder, tmp_path / "out", **keys | changes)


def test_videos_in_a_later_stage_that_own_projectors_cannot_take_are_known_before_the_first(video_recipe, monkeypatch):
    trained = []
    monkeypatch.setattr(LocalTrainer, "train", lambda *args: trained.append(args))
    with pytest.raises(FcitError, match=r"nothing was trained.*of film.*a video's features.*`per_device_eval_batch_size: 1`"):
        run_recipe(video_recipe())
    assert not trained


def test_one_at_a_time_videos_are_seen_through_own_projectors(video_recipe):
    report = report_of(run_recipe(video_recipe(per_device_eval_batch_size=1)))
    assert all(0 <= score <= 100 for score in report["accuracy"][1])


class TestTheTraining:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"optim": "galore_adamw"}, "galore_torch|optim_target_modules"),
            ({"optim": "lomo"}, "ImportError: .*lomo"),
            (
                {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycle": 2}},
                "`lr_scheduler_type: cosine_with_restarts` cannot",
            ),
        ],
    )
    def test_an_optimizer_that_cannot_be_made_is_known_before_the_untuned_model_is_asked(
        self, text_recipe, monkeypatch, changes, words
    ):
        asked = []
        monkeypatch.setattr(run.FederatedRun, "_evaluate", lambda *args, **kwargs: asked.append(args))
        with pytest.raises(ValueError, match=words):
            run_recipe(text_recipe(**changes))
        assert not asked

    @pytest.mark.parametrize("error", [RuntimeError("a kernel is missing"), torch.OutOfMemoryError("CUDA out of memory")])
    def test_so_is_a_base_model_that_gives_no_gradient(self, text_recipe, monkeypatch, error):
        def fail(*args, **kwargs):
            raise error

        trained = []
        monkeypatch.setattr(LocalTrainer, "train", lambda *args: trained.append(args))
        monkeypatch.setattr(torch.Tensor, "backward", fail)
        with pytest.raises(FcitError, match=r"a kernel is missing|Lower `cutoff_len`"):
            run_recipe(text_recipe())
        assert not trained

    def test_a_record_that_only_its_client_fails_with_is_left_for_its_turn(self, text_recipe, monkeypatch):
        original, failed = LocalTrainer.trainer, []

        def trainer(self, *args, **kwargs):
            made = original(self, *args, **kwargs)
            if not failed:
                failed.append(made)
                monkeypatch.setattr(made, "compute_loss", lambda *args, **kwargs: torch.tensor(float("nan")).log_().backward())
                monkeypatch.setattr(made, "data_collator", lambda rows: (_ for _ in ()).throw(FcitError("This record is bad.")))
            return made

        monkeypatch.setattr(LocalTrainer, "trainer", trainer)
        assert report_of(run_recipe(text_recipe()))["dropped"] == []
        assert failed

    @pytest.mark.parametrize("changes", [{}, {"bf16": True}, {"lora_dropout": 0.5}, {"neftune_noise_alpha": 5.0}], ids=str)
    def test_it_leaves_weights_gradients_hooks_and_random_numbers_as_they_were(self, llava_recipe, changes):
        session = open_session(*get_train_args(llava_recipe(freeze_multi_modal_projector=False, use_cpu=True, **changes)))
        local, work = session.local(), next(iter(session.program.work(0, 0).values()))

        def look():
            weights = {name: value.clone() for name, value in session.model.state_dict().items()}
            grads = [name for name, value in session.model.named_parameters() if value.grad is not None]
            hooks = [(name, vars(m).keys(), list(m._forward_hooks), m.training) for name, m in session.model.named_modules()]
            return weights, (grads, hooks, random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())

        rehearse_training(local, work)
        weights, rest = look()
        rehearse_training(local, work)
        weights_after, rest_after = look()
        assert rest_after == rest
        assert all(torch.equal(value, weights_after[name]) for name, value in weights.items())

    @pytest.mark.parametrize(
        ("changes", "longest"),
        [({}, True), ({"max_steps": 1}, False), ({"num_train_epochs": 0.5}, False), ({"dataloader_drop_last": True}, False)],
    )
    def test_it_takes_the_longest_record_that_is_trained_on_for_sure(self, text_recipe, monkeypatch, changes, longest):
        session = open_session(*get_train_args(text_recipe(fcit_min_client_samples=8, **changes)))
        local, work, seen = session.local(), next(iter(session.program.work(0, 0).values())), []
        trainer = local.trainer
        monkeypatch.setattr(local, "trainer", lambda work, features: seen.append(features) or trainer(work, features))
        rehearse_training(local, work)
        lengths = [len(ids) for ids in local.features(work)["input_ids"]]
        assert [len(ids) for ids in seen[0]["input_ids"]] == [(max if longest else min)(lengths)]
