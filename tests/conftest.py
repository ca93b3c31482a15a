"""Shared fixtures: tiny models and data, recipes run in this process or in a fresh one, finished runs to look at."""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # 2 or more must pass too
os.environ.setdefault("DISABLE_VERSION_CHECK", "0")  # set for versions that LLaMA-Factory does not know yet
os.environ.update(
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    MPLBACKEND="Agg",
    FCIT_SECRETS_DIR=os.path.join(tempfile.gettempdir(), f"fcit_tests_secrets_{os.getuid()}"),  # of all workers
)
os.environ.pop("FCIT_DATA_DIR", None)
os.environ.pop("TORCH_DEVICE_BACKEND_AUTOLOAD", None)

import gc
import json
import logging
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import light
import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from runs import fresh_process, run_recipe
from strangers import install  # noqa: F401  (a fixture)
from transformers import AutoModelForCausalLM

from fcit_plugin import plugins
from fcit_plugin.fcit_benchmark.layout import LAYOUT
from fcit_plugin.samples.mini.build import mini_root

gc.disable()  # until the tests are imported and collected: it would be a quarter of that time
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

TARGETS = ["gate_proj", "up_proj", "down_proj"]
#: Seconds that each test file takes; a fixture of the session counts for the first file that asks for it.
SECONDS: Counter[str] = Counter()


def pytest_collection_finish() -> None:
    """Sets what is loaded and collected aside, and goes on without waiting for the disk."""
    light.collect_light()
    light.flush_light()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Adds up the seconds of a file's tests, their set-up and tear-down included, of all workers."""
    SECONDS[report.nodeid.partition("::")[0]] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Lists the slowest files, where there were many."""
    if len(SECONDS) > 10:
        terminalreporter.section(f"ten slowest of {len(SECONDS)} files, which took {SECONDS.total():.0f} s")
        for name, seconds in SECONDS.most_common(10):
            terminalreporter.write_line(f"{seconds:6.1f} s  {name}")


@pytest.fixture(scope="session")
def text_model(tmp_path_factory) -> Path:
    """Folder of a tiny random Llama."""
    return tiny.llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def llava_model(tmp_path_factory) -> Path:
    """Folder of a tiny random LLaVA."""
    return tiny.llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def qwen3_model(tmp_path_factory) -> Path:
    """Folder of a tiny random Qwen3."""
    return tiny.qwen3(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(scope="session")
def qwen25_vl_model(tmp_path_factory) -> Path:
    """Folder of a tiny random Qwen2.5-VL."""
    return tiny.qwen25_vl(tmp_path_factory.mktemp("qwen25_vl"))


@pytest.fixture(scope="session")
def llava15_7b_shape(tmp_path_factory) -> Path:
    """Folder of LLaVA-1.5-7B's configuration and processor, without weights."""
    return tiny.llava15_7b(tmp_path_factory.mktemp("llava15_7b"))


@pytest.fixture(scope="session")
def clip_model(tmp_path_factory) -> Path:
    """Folder of a tiny random CLIP text tower."""
    return tiny.clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def text_data(tmp_path_factory) -> Path:
    """Folder of the tiny tasks, text only."""
    return tiny.data(tmp_path_factory.mktemp("text_data"))


@pytest.fixture(scope="session")
def image_data(tmp_path_factory) -> Path:
    """Folder of the tiny tasks, with images."""
    return tiny.data(tmp_path_factory.mktemp("image_data"), images=True)


@pytest.fixture(scope="session")
def small_mini(tmp_path_factory) -> Path:
    """Root of FCIT-mini's twelve datasets with few records; not to be changed."""
    return tiny.mini(tmp_path_factory.mktemp("small_mini") / "root")


@pytest.fixture(scope="session")
def mini_instructions() -> dict[str, list[str]]:
    """Training instructions of FCIT-mini's twelve tasks, without the image tag."""
    texts = {}
    for layout in LAYOUT.values():
        rows = json.loads((mini_root() / layout.train_path).read_text(encoding="utf-8"))
        texts[layout.key] = [row["conversations"][0]["value"].replace("<image>", "").strip() for row in rows]
    return texts


@pytest.fixture
def run() -> Callable[[dict[str, Any]], Path]:
    """Runs a recipe in this process."""
    return run_recipe


@pytest.fixture
def logged(caplog) -> Iterator[pytest.LogCaptureFixture]:
    """What a test logs in LLaMA-Factory's style, which keeps its records from caplog's own handler."""
    logger = logging.getLogger("llamafactory")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


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
    return tiny.recipe(llava_model, image_data, output_dir, freeze_multi_modal_projector=False, fcit_keep_client_updates=True)


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


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess]:
    """Runs a command of the test's own virtual environment in a fresh process."""
    return fresh_process


@pytest.fixture
def register() -> Iterator[Callable[[Any], None]]:
    """Registers a module-like object for the length of a test."""
    registered = []

    def add(plugin) -> None:
        plugins.manager().register(plugin)
        registered.append(plugin)
        plugins.registry.cache_clear()

    yield add
    for plugin in registered:
        plugins.manager().unregister(plugin)
    plugins.registry.cache_clear()
