"""LLaMA-Factory's callbacks and the user's: reporters hear of the run, the others see each client's training."""

import json
import sys
from types import SimpleNamespace

import pytest
from light import coarse_pictures
from llamafactory.hparams.finetuning_args import FinetuningArguments
from llamafactory.train.callbacks import LogCallback, ReporterCallback, TorchProfilerCallback
from llamafactory.train.trainer_utils import get_swanlab_callback
from runs import outcome
from transformers import TrainerCallback

from fcit_plugin.engine.callbacks import SWANLAB, Callbacks, StopButton

#: A package of SwanLab's name that writes down what it hears.
SWANLAB_PACKAGE = """
heard = []

class config:
    @staticmethod
    def update(values):
        heard.append(("config", sorted(values)))
"""
SWANLAB_INTEGRATION = """
import swanlab
from transformers import TrainerCallback

class SwanLabCallback(TrainerCallback):
    def __init__(self, **settings):
        swanlab.heard.append(("settings", settings["project"], settings["mode"]))

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        swanlab.heard.append(("begin", state.max_steps))

    def on_log(self, args, state, control, model=None, logs=None, **kwargs):
        swanlab.heard.append(("log", state.global_step, logs))
"""


@pytest.fixture
def swanlab(install):
    """SwanLab's package on the path, as far as LLaMA-Factory uses it."""
    folder = install("swanlab", SWANLAB_PACKAGE, entry="json")
    (folder / "integration").mkdir()
    (folder / "integration" / "__init__.py").touch()
    (folder / "integration" / "transformers.py").write_text(SWANLAB_INTEGRATION)


def test_swanlab_hears_of_a_run_what_report_to_would(swanlab, text_recipe, run):
    run(text_recipe(use_swanlab=True, swanlab_project="mine", swanlab_mode="local", fcit_num_rounds=1))
    heard = sys.modules["swanlab"].heard
    kinds = [kind for kind, *_ in heard]
    assert kinds[:3] == ["settings", "begin", "config"] and kinds.count("begin") == 1
    assert heard[0] == ("settings", "mine", "local")
    assert heard[2][1] == ["data_args", "finetuning_args", "generating_args", "model_args"]
    logs = [entry for kind, *rest in heard if kind == "log" for entry in rest[1:]]
    assert {"eval_color", "eval_zero_shot_letter", "loss", "bytes_up"} <= {name for entry in logs for name in entry}


class Counts(TrainerCallback):
    """Counts trainings and their steps."""

    def __init__(self) -> None:
        self.begun = self.steps = 0

    def on_train_begin(self, args, state, control, **kwargs):
        self.begun += 1

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1


def test_the_profiler_and_the_users_own_callbacks_see_every_clients_training(text_recipe, tmp_path):
    from llamafactory.train.tuner import run_exp

    counts = Counts()
    keys = text_recipe(
        fcit_num_rounds=1, fcit_eval_every="never", enable_torch_profiler=True, profiler_output_dir=str(tmp_path / "traces"),
        profiler_wait_steps=0, profiler_warmup_steps=0, profiler_with_stack=False, profile_modules="*.mlp",
    )  # fmt: skip
    run_exp(keys, callbacks=[counts])
    log = [json.loads(line) for line in (tmp_path / "out" / "trainer_log.jsonl").read_text().splitlines()]
    assert (counts.begun, counts.steps) == (4, len(log)), "two stages of two clients"
    assert len(list((tmp_path / "traces" / "rank_0").glob("*.json"))) == 4


def test_callbacks_change_no_bit(text_recipe, run):
    from llamafactory.train.tuner import run_exp

    plain = run(text_recipe("plain", fcit_num_rounds=1))
    with coarse_pictures():  # as those of the other run
        run_exp({**text_recipe("watched", fcit_num_rounds=1), "disable_tqdm": True}, callbacks=[Counts()])
    assert outcome(plain.parent / "watched") == outcome(plain)


def test_who_hears_of_what(swanlab):
    args = FinetuningArguments(use_swanlab=True)
    reporter = ReporterCallback(None, None, args, None)
    given = [Counts(), LogCallback(), get_swanlab_callback(args), TorchProfilerCallback(SimpleNamespace()), reporter]
    sorted_out = Callbacks.of(given)
    assert [type(callback).__name__ for callback in sorted_out.of_run] == [SWANLAB, "ReporterCallback"]
    assert [type(callback).__name__ for callback in sorted_out.of_clients] == ["Counts", "TorchProfilerCallback"]
    assert Callbacks.of(None) == Callbacks()


def test_the_boards_button_ends_the_run_also_within_a_clients_training(text_recipe, monkeypatch):
    """Errors of a client's are not the run's; this is none."""
    from llamafactory.train.tuner import run_exp

    class Presses(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            log.aborted = True

    log = LogCallback()
    log.webui_mode = True
    assert [type(callback) for callback in Callbacks.of([log]).of_clients] == [StopButton]
    with pytest.raises(SystemExit) as caught:
        run_exp({**text_recipe(fcit_eval_every="never"), "disable_tqdm": True}, callbacks=[Presses(), log])
    assert caught.value.code == 0
