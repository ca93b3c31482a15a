"""Shared fixtures: tiny models and data, recipes run in this process or in a fresh one, finished runs to look at."""

import os

os.environ.update(
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    DISABLE_VERSION_CHECK="0",
    MPLBACKEND="Agg",
)
os.environ.pop("FCIT_DATA_DIR", None)
os.environ.pop("TORCH_DEVICE_BACKEND_AUTOLOAD", None)

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]
TARGETS = ["gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="session")
def text_model(tmp_path_factory) -> Path:
    """Folder of a tiny random Llama."""
    return tiny.llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def llava_model(tmp_path_factory) -> Path:
    """Folder of a tiny random LLaVA."""
    return tiny.llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def text_data(tmp_path_factory) -> Path:
    """Folder of the tiny tasks, text only."""
    return tiny.data(tmp_path_factory.mktemp("text_data"))


@pytest.fixture(scope="session")
def image_data(tmp_path_factory) -> Path:
    """Folder of the tiny tasks, with images."""
    return tiny.data(tmp_path_factory.mktemp("image_data"), images=True)


def run_recipe(keys: dict[str, Any]) -> Path:
    """Run a recipe in this process as ``llamafactory-cli train`` does; returns its ``output_dir``.

    The environment is put back afterwards: LLaMA-Factory and the Trainer leave marks in it.
    """
    from llamafactory.train.tuner import run_exp

    before = dict(os.environ)
    try:
        run_exp({"disable_tqdm": True, **keys})
    finally:
        os.environ.clear()
        os.environ.update(before)
    return Path(keys["output_dir"])


@pytest.fixture
def run() -> Callable[[dict[str, Any]], Path]:
    """Runs a recipe in this process."""
    return run_recipe


@pytest.fixture
def text_recipe(text_model, text_data, tmp_path) -> Callable[..., dict[str, Any]]:
    """Makes recipes on the tiny Llama; ``changes`` override keys, None takes one out."""
    return lambda output="out", **changes: tiny.recipe(text_model, text_data, tmp_path / output, **changes)


@pytest.fixture
def llava_recipe(llava_model, image_data, tmp_path) -> Callable[..., dict[str, Any]]:
    """Makes recipes on the tiny LLaVA."""
    return lambda output="out", **changes: tiny.recipe(llava_model, image_data, tmp_path / output, **changes)


@pytest.fixture(scope="session")
def text_keys(text_model, text_data, tmp_path_factory) -> dict[str, Any]:
    """The recipe of :func:`text_run`."""
    output_dir = tmp_path_factory.mktemp("text_run") / "out"
    return tiny.recipe(text_model, text_data, output_dir, report_to="tensorboard", fcit_keep_client_updates=True)


@pytest.fixture(scope="session")
def text_run(text_keys) -> Path:
    """Output of a finished DISCO run on the tiny Llama."""
    return run_recipe(text_keys)


@pytest.fixture(scope="session")
def llava_keys(llava_model, image_data, tmp_path_factory) -> dict[str, Any]:
    """The recipe of :func:`llava_run`: it trains the projector."""
    output_dir = tmp_path_factory.mktemp("llava_run") / "out"
    return tiny.recipe(
        llava_model, image_data, output_dir, freeze_multi_modal_projector=False, fcit_keep_client_updates=True
    )


@pytest.fixture(scope="session")
def llava_run(llava_keys) -> Path:
    """Output of a finished DISCO run on the tiny LLaVA, with the projector trained."""
    return run_recipe(llava_keys)


@pytest.fixture
def peft_model(text_model) -> Callable[..., PeftModel]:
    """Makes the tiny Llama with a LoRA adapter of rank 4 and scale 2; ``changes`` go to its configuration."""

    def make(dtype: torch.dtype = torch.float32, **changes: Any) -> PeftModel:
        base = AutoModelForCausalLM.from_pretrained(text_model, dtype=dtype)
        config = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM", **changes}
        return get_peft_model(base, LoraConfig(**config))

    return make


def fresh_process(
    command: list[str], env: dict[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess:
    """Run a command in a fresh process; its output is in ``stdout``, and shown when it fails."""
    scripts = Path(sys.executable).parent
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(scripts / command[0]), *command[1:]],
        env={**os.environ, "PATH": path, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-6000:]}"
    return done


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess]:
    """Runs a command of the test's own virtual environment in a fresh process."""
    return fresh_process


def report_of(output_dir: Path) -> dict[str, Any]:
    """The report of a run without its times."""
    report = json.loads((output_dir / "fcit_report.json").read_text())
    report.pop("seconds")
    return report


def weight_bytes(output_dir: Path) -> dict[str, bytes]:
    """Every safetensors file that a run left, by its path in the output folder."""
    return {str(path.relative_to(output_dir)): path.read_bytes() for path in sorted(output_dir.rglob("*.safetensors"))}
