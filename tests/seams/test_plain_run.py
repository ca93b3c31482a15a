"""LLaMA-Factory without an fcit key: the same bits with and without the plugin, and it works on if a seam fails."""

import importlib
import json
import logging
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
import wrapt
from llamafactory.hparams import get_train_args
from runs import fresh_process, infer_args, weight_bytes

from fcit_plugin import autoload


def plain_recipe(folder, text_model, name):
    records = [{"instruction": f"name the color of {color}", "input": "", "output": color} for color in tiny.COLORS] * 5
    data = folder / "data"
    data.mkdir(exist_ok=True)
    (data / "plain.json").write_text(json.dumps(records))
    (data / "dataset_info.json").write_text(json.dumps({"plain": {"file_name": "plain.json"}}))
    keys = tiny.recipe(text_model, data, folder / name, stage="sft", dataset="plain", lora_dropout=0.1, save_strategy="no")
    return tiny.write_recipe(folder / f"{name}.yaml", {k: v for k, v in keys.items() if not k.startswith("fcit_")})


def test_a_plain_run_is_bit_identical_with_the_plugin_off_and_on(tmp_path, text_model):
    def train(name, env):
        recipe = plain_recipe(tmp_path, text_model, name)
        return fresh_process(["llamafactory-cli", "train", str(recipe)], env).stdout

    plain_recipe(tmp_path, text_model, "off")
    with ThreadPoolExecutor() as pool:
        off = pool.submit(train, "off", {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
        on = pool.submit(train, "on", {"TORCH_DEVICE_BACKEND_AUTOLOAD": "1"})
    assert "fcit-plugin stays out" not in off.result() + on.result()
    weights = [weight_bytes(tmp_path / name) for name in ("off", "on")]
    assert "adapter_model.safetensors" in weights[0]
    assert weights[0] == weights[1]
    losses = [
        [json.loads(line).get("loss") for line in (tmp_path / name / "trainer_log.jsonl").read_text().splitlines()]
        for name in ("off", "on")
    ]
    assert len(losses[0]) >= 5
    assert losses[0] == losses[1]


def test_import_torch_alone_imports_nothing_heavy_of_ours(process):
    code = (
        "import torch, sys, fcit_plugin.autoload as a; assert a._registered;"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('fcit_plugin', 'flwr', 'peft', 'transformers')))"
    )
    assert process(["python", "-c", code]).stdout.splitlines()[-1] == "['fcit_plugin', 'fcit_plugin.autoload']"


def test_plain_llamafactory_imports_do_not_pull_flower_in(process):
    code = (
        "import llamafactory.train.tuner, sys, wrapt;"
        "assert isinstance(sys.modules['llamafactory.train.tuner'].run_sft, wrapt.FunctionWrapper);"
        "print([m for m in sys.modules if m.split('.')[0] == 'flwr'])"
    )
    assert process(["python", "-c", code]).stdout.splitlines()[-1] == "[]"


@pytest.fixture
def seam(tmp_path, monkeypatch):
    """Registers our seam on a module that looks as given; returns the module once it is imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, source, ours="fcit_plugin.seams.workflow"):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setattr(autoload, "SEAMS", {name: ours})
        monkeypatch.setattr(autoload, "_registered", False)
        monkeypatch.setattr(autoload, "FAILED", {})
        autoload.autoload()
        return importlib.import_module(name)

    return make


@pytest.fixture
def logged(monkeypatch):
    """What the entry point logs, whoever shows it."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    monkeypatch.setattr(autoload.logger, "handlers", [handler])
    return records


class TestAutoload:
    def test_a_module_that_looks_as_expected_is_hooked_without_a_word(self, seam, logged):
        module = seam("looks_right", "def run_sft(*args): return args\n")
        assert isinstance(module.run_sft, wrapt.FunctionWrapper)
        assert logged == []

    @pytest.mark.parametrize(
        ("name", "source", "ours"),
        [
            ("without_the_name", "other = 1\n", "fcit_plugin.seams.workflow"),
            ("our_seam_is_gone", "run_sft = print\n", "fcit_plugin.seams.no_such_seam"),
            ("other_signature", "init_adapter = 5\n", "fcit_plugin.engine.trainable"),
        ],
    )
    def test_a_seam_that_does_not_fit_gives_one_warning_and_the_module_works_on(self, seam, logged, name, source, ours):
        module = seam(name, source, ours)
        (record,) = logged
        assert record.levelno == logging.WARNING
        assert "fcit-plugin stays out of" in record.getMessage() and name in record.getMessage()
        namespace = {}
        exec(source, namespace)
        assert {k: v for k, v in vars(module).items() if k in ("other", "run_sft", "init_adapter")} == {
            k: v for k, v in namespace.items() if k in ("other", "run_sft", "init_adapter")
        }

    def test_several_seams_that_do_not_fit_give_one_warning_and_fcit_recipes_are_refused(self, seam, logged, text_recipe):
        seam("first_misfit", "other = 1\n")
        module = types.ModuleType("second_misfit")
        autoload._installer("fcit_plugin.seams.workflow")(module)
        assert len(logged) == 1
        assert set(autoload.FAILED) == {"first_misfit", "second_misfit"}
        with pytest.raises(ValueError, match="LLaMA-Factory cannot be used with fcit keys: first_misfit"):
            get_train_args(text_recipe())

    def test_a_second_call_registers_nothing_again(self, seam, monkeypatch):
        module = seam("called_twice", "def run_sft(*args): return args\n")
        autoload.autoload()
        assert isinstance(module.run_sft, wrapt.FunctionWrapper)
        assert not isinstance(module.run_sft.__wrapped__, wrapt.FunctionWrapper)

    def test_a_module_imported_before_is_hooked_too(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "came_first.py").write_text("def run_sft(*args): return args\n")
        module = importlib.import_module("came_first")
        monkeypatch.setattr(autoload, "SEAMS", {"came_first": "fcit_plugin.seams.workflow"})
        monkeypatch.setattr(autoload, "_registered", False)
        autoload.autoload()
        assert isinstance(sys.modules["came_first"].run_sft, wrapt.FunctionWrapper)
        assert module.run_sft is sys.modules["came_first"].run_sft

    @pytest.mark.parametrize("first", ["package", "package.module", "package.other"])
    def test_modules_that_bring_us_in_themselves_are_hooked_once_they_are_whole(self, tmp_path, monkeypatch, first):
        """As where a script imports LLaMA-Factory before torch: whichever of its modules is the first to import that."""
        ours = "from fcit_plugin.autoload import autoload\nautoload()\n"
        whole = f"{ours}def run_sft(*args): return args\n"
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "__init__.py").write_text(f"from .module import run_sft as taken\n{whole}")
        (tmp_path / "package" / "module.py").write_text(f"from . import other\n{whole}")
        (tmp_path / "package" / "other.py").write_text(f"{ours}def run_sft(*args): return args\n")
        monkeypatch.syspath_prepend(tmp_path)
        names = ("package", "package.module", "package.other")
        monkeypatch.setattr(autoload, "SEAMS", dict.fromkeys(names, "fcit_plugin.seams.workflow"))
        monkeypatch.setattr(autoload, "FAILED", {})
        monkeypatch.setattr(autoload, "_registered", False)
        try:
            importlib.import_module(first)
            modules = [sys.modules[name] for name in names]
        finally:
            for name in [name for name in sys.modules if name.split(".")[0] == "package"]:
                del sys.modules[name]
        assert autoload.FAILED == {}
        for function in (modules[0].taken, *(module.run_sft for module in modules)):
            assert isinstance(function, wrapt.FunctionWrapper)
            assert not isinstance(function.__wrapped__, wrapt.FunctionWrapper)

    def test_a_module_whose_import_fails_is_hooked_by_the_next_that_works(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        code = "from fcit_plugin.autoload import autoload\nautoload()\nimport helper_of_it\ndef run_sft(*args): return args\n"
        (tmp_path / "fails_once.py").write_text(code)
        monkeypatch.setattr(autoload, "SEAMS", {"fails_once": "fcit_plugin.seams.workflow"})
        monkeypatch.setattr(autoload, "FAILED", {})
        monkeypatch.setattr(autoload, "_registered", False)
        with pytest.raises(ModuleNotFoundError, match="helper_of_it"):
            importlib.import_module("fails_once")
        (tmp_path / "helper_of_it.py").write_text("")
        importlib.invalidate_caches()
        assert isinstance(importlib.import_module("fails_once").run_sft, wrapt.FunctionWrapper)
        assert autoload.FAILED == {}


def test_a_script_that_imports_the_chat_model_first_has_a_run_answer(process, text_run, text_keys):
    """The way that LLaMA-Factory is used from Python: nothing has imported torch before."""
    code = "from llamafactory.chat import ChatModel; print([m.response_text for m in ChatModel({!r}).chat([{!r}])])".format(
        infer_args(text_keys, text_run, infer_backend="huggingface", max_new_tokens=2),
        {"role": "user", "content": "name the color of this square please red"},
    )
    assert process(["python", "-c", code]).stdout.splitlines()[-1].startswith("[")
