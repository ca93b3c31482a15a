"""What we rely on in transformers. A failure here names the behavior that an upgrade changed."""

import copy
import gc
import inspect

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    HfArgumentParser,
    PrinterCallback,
    SchedulerType,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    get_scheduler,
)
from transformers.integrations import deepspeed, get_reporting_integration_callbacks, is_deepspeed_zero3_enabled
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, use_experts_implementation
from transformers.models.llava_next import modeling_llava_next as llava_next
from transformers.trainer_utils import IntervalStrategy

from fcit_plugin.arguments import FcitArguments


class TwoWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -1.0]))

    def forward(self, x, labels=None):
        return {"loss": ((x @ self.w - labels) ** 2).mean(), "logits": x @ self.w}


ROWS = [{"x": torch.tensor([float(i), 1.0]), "labels": torch.tensor(float(i % 3))} for i in range(10)]


def trainer(tmp_path, model=None, seed=1, **changes):
    args = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_train_epochs=1,
        learning_rate=0.1,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        seed=seed,
        data_seed=seed,
        **changes,
    )
    return Trainer(model=model or TwoWeights(), args=args, train_dataset=ROWS)


class Hears(TrainerCallback):
    def __init__(self):
        self.events = []

    def on_step_end(self, args, state, control, **kwargs):
        self.events.append("step")

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.events.append(set(logs))


def test_a_callback_hears_of_steps_first_and_then_of_logs_with_loss_and_learning_rate(tmp_path):
    hears = Hears()
    one = trainer(tmp_path)
    one.add_callback(hears)
    result = one.train()
    assert hears.events[:2] == ["step", hears.events[1]]
    assert {"loss", "learning_rate", "epoch"} <= hears.events[1]
    assert hears.events.count("step") == 3
    assert isinstance(result.training_loss, float)


def test_remove_callback_takes_a_class_also_one_that_is_not_there(tmp_path):
    one = trainer(tmp_path)
    one.remove_callback(PrinterCallback)
    one.remove_callback(PrinterCallback)
    assert not any(isinstance(callback, PrinterCallback) for callback in one.callback_handler.callbacks)


def test_training_depends_on_the_seeds_in_the_arguments_alone(tmp_path):
    results = []
    for seed, noise in ((1, 0), (1, 99), (2, 0)):
        torch.manual_seed(noise)
        one = trainer(tmp_path, seed=seed)
        one.train()
        results.append(one.model.w.detach().clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_second_trainer_on_the_same_model_starts_with_a_fresh_optimizer_and_schedule(tmp_path):
    model, results = TwoWeights(), []
    for _ in range(2):
        model.w.data = torch.tensor([1.0, -1.0])
        trainer(tmp_path, model).train()
        results.append(model.w.detach().clone())
    assert torch.equal(*results)


@pytest.mark.parametrize("rows", [1, 4, 5, 10])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("epochs", [1, 1.5, 2])
def test_the_number_of_steps_is_what_we_count_in_advance(tmp_path, rows, accumulation, epochs):
    from types import SimpleNamespace

    from fcit_plugin.engine.client_training import LocalTrainer

    one = trainer(tmp_path, gradient_accumulation_steps=accumulation)
    one.args.num_train_epochs = epochs
    one.train_dataset = ROWS[:rows]
    one.train()
    pipeline = SimpleNamespace(training_args=one.args)
    ours = SimpleNamespace(pipeline=pipeline, _num_samples=lambda config: rows)
    assert LocalTrainer.num_steps(ours, {}) == one.state.global_step


def test_report_to_names_give_callback_classes_that_can_be_driven_without_a_trainer(tmp_path):
    (tensorboard,) = get_reporting_integration_callbacks(["tensorboard"])
    args = TrainingArguments(output_dir=str(tmp_path), report_to=["tensorboard"], use_cpu=True)
    reporter, state = tensorboard(), TrainerState(is_world_process_zero=True, is_local_process_zero=True)
    reporter.on_train_begin(args, state, TrainerControl())
    reporter.on_log(args, state, TrainerControl(), logs={"eval_x": 1.0, "y": 2})
    reporter.on_train_end(args, state, TrainerControl())
    assert list(tmp_path.rglob("events.out.tfevents*"))


@pytest.mark.parametrize("given", ["none", [], None])
def test_report_to_nothing_gives_no_reporters(given):
    assert get_reporting_integration_callbacks(given) == []


def test_zero3_is_off_without_deepspeed():
    assert is_deepspeed_zero3_enabled() is False


@pytest.fixture
def zero3(tmp_path):
    """The arguments of a recipe with ZeRO-3 and a schedule that each training fills in."""
    pytest.importorskip("deepspeed")
    params = dict.fromkeys(("warmup_min_lr", "warmup_max_lr", "warmup_num_steps", "total_num_steps"), "auto")
    config = {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    config["scheduler"] = {"type": "WarmupDecayLR", "params": params}
    yield TrainingArguments(output_dir=str(tmp_path), deepspeed=config, use_cpu=True, report_to="none")
    deepspeed.unset_hf_deepspeed_config()


def test_zero3_is_on_as_long_as_the_configuration_is_known_by_a_weak_reference(zero3):
    assert is_deepspeed_zero3_enabled() and deepspeed._hf_deepspeed_config_weak_ref() is zero3.hf_deepspeed_config
    held = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    assert not is_deepspeed_zero3_enabled()
    deepspeed._hf_deepspeed_config_weak_ref = held
    assert is_deepspeed_zero3_enabled()
    deepspeed.set_hf_deepspeed_config(copy.deepcopy(zero3.hf_deepspeed_config))
    gc.collect()
    assert not is_deepspeed_zero3_enabled(), "a copy that is gone takes it away"
    deepspeed.set_hf_deepspeed_config(zero3.hf_deepspeed_config)
    assert is_deepspeed_zero3_enabled()


def test_a_training_fills_its_steps_into_the_configuration_of_its_arguments_which_a_deep_copy_keeps_apart(zero3):
    own = copy.deepcopy(zero3, {id(zero3.distributed_state): zero3.distributed_state})
    assert own.distributed_state is zero3.distributed_state
    assert own.deepspeed_plugin.hf_ds_config is own.hf_deepspeed_config is not zero3.hf_deepspeed_config
    own.hf_deepspeed_config.trainer_config_finalize(own, TwoWeights(), 7)
    steps = [args.hf_deepspeed_config.config["scheduler"]["params"]["total_num_steps"] for args in (own, zero3)]
    assert steps == [7, "auto"]


def test_interval_strategy_has_no(tmp_path):
    assert trainer(tmp_path).args.save_strategy == IntervalStrategy.NO


def test_hf_argument_parser_shows_the_help_of_our_fields(capsys):
    with pytest.raises(SystemExit):
        HfArgumentParser([FcitArguments]).parse_args_into_dataclasses(["--help"])
    shown = capsys.readouterr().out
    assert "--fcit_similarity_threshold" in shown
    assert "--fcit_stages" in shown


def test_generation_repeats_each_sample_in_a_row_for_beams_and_returned_sequences(text_model):
    model, seen = AutoModelForCausalLM.from_pretrained(text_model), []
    model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True)
    ids = torch.tensor([[1, 7], [1, 8]])
    model.generate(input_ids=ids, num_beams=3, num_return_sequences=2, max_new_tokens=2, do_sample=False, pad_token_id=0)
    assert seen[0].tolist() == [[1, 7]] * 3 + [[1, 8]] * 3
    assert {len(step) for step in seen} == {6}


def test_fused_experts_say_of_what_form_they_are_and_are_called_alike():
    """Every class whose forward pass transformers may take over is so marked; adapters/fused.py computes it by itself."""
    made = use_experts_implementation(is_transposed=True, has_bias=True)(type("Experts", (nn.Module,), {"__init__": _init}))(
        None
    )
    assert (made.has_gate, made.has_bias, made.is_transposed) == (True, True, True) and callable(made._apply_gate)
    for function in ("batched_mm", "grouped_mm"):
        given = [*inspect.signature(ALL_EXPERTS_FUNCTIONS[function]).parameters]
        assert given == ["self", "hidden_states", "top_k_index", "top_k_weights"]


def _init(self, config):
    nn.Module.__init__(self)


def test_llava_next_counts_tiles_and_takes_padding_away():
    assert [*inspect.signature(llava_next.image_size_to_num_patches).parameters] == [
        "image_size",
        "grid_pinpoints",
        "patch_size",
    ]
    assert [*inspect.signature(llava_next.get_anyres_image_grid_shape).parameters] == [
        "image_size",
        "grid_pinpoints",
        "patch_size",
    ]
    assert llava_next.unpad_image(torch.empty(1, 4, 4, device="meta"), (2, 4)).shape == (1, 2, 4)


_NEEDED = {
    "cosine_with_min_lr": {"min_lr": 0.01},
    "cosine_warmup_with_min_lr": {"min_lr": 0.01},
    "warmup_stable_decay": {"num_decay_steps": 5},
}


@pytest.mark.parametrize("kind", [kind.value for kind in SchedulerType])
def test_a_schedule_is_a_function_of_the_step_but_for_two(kind):
    """A client takes its piece of a chain's schedule by ``lr_lambdas`` and ``base_lrs`` (engine/trainer_mixins.py)."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    made = get_scheduler(kind, optimizer, 2, 10, scheduler_specific_kwargs=_NEEDED.get(kind))
    by_step = kind not in ("reduce_lr_on_plateau", "greedy")
    assert isinstance(made, torch.optim.lr_scheduler.LambdaLR) == by_step
    if by_step:
        assert (made.base_lrs, len(made.lr_lambdas)) == ([0.5], 1)
        assert optimizer.param_groups[0]["lr"] == 0.5 * made.lr_lambdas[0](0)


def test_the_trainer_makes_its_schedule_by_create_scheduler(tmp_path):
    planned = []

    class Counting(Trainer):
        def create_scheduler(self, num_training_steps, *args, **kwargs):
            planned.append(num_training_steps)
            return super().create_scheduler(num_training_steps, *args, **kwargs)

    args = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=4, num_train_epochs=1, report_to="none", use_cpu=True
    )
    one = Counting(TwoWeights(), args, train_dataset=ROWS)
    one.train()
    assert set(planned) == {3} and one.state.global_step == 3
