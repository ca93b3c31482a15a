"""Running recipes and commands in tests, and reading what a run left."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from light import coarse_pictures

from fcit_plugin.state.pages import TYPED_YAML

ROOT = Path(__file__).parents[2]


def run_recipe(keys: dict[str, Any]) -> Path:
    """Run a recipe in this process as ``llamafactory-cli train`` does; returns its ``output_dir``.

    The environment is put back afterwards: LLaMA-Factory and the Trainer leave marks in it. Its pictures are coarse.
    """
    from llamafactory.train.tuner import run_exp

    before = dict(os.environ)
    try:
        with coarse_pictures():
            run_exp({"disable_tqdm": True, **keys})
    finally:
        os.environ.clear()
        os.environ.update(before)
    return Path(keys["output_dir"])


def fresh_process(
    command: list[str], env: dict[str, str] | None = None, timeout: float = 240, code: int = 0
) -> subprocess.CompletedProcess:
    """Run a command in a fresh process; its output is in ``stdout``, and shown when it does not end with ``code``."""
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
    assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}"
    return done


def report_of(output_dir: Path) -> dict[str, Any]:
    """The report of a run without its times and its processes."""
    report = json.loads((output_dir / "fcit_report.json").read_text())
    report.pop("seconds")
    report.pop("engine")
    return report


def weight_bytes(output_dir: Path) -> dict[str, bytes]:
    """Every safetensors file that a run left, by its path in the output folder."""
    return {str(path.relative_to(output_dir)): path.read_bytes() for path in sorted(output_dir.rglob("*.safetensors"))}


def infer_args(run_keys: dict[str, Any], folder: Path, **more: Any) -> dict[str, Any]:
    """Arguments of chat, api or export on what a run left."""
    keys = ("model_name_or_path", "template", "default_system")
    return {**{key: run_keys[key] for key in keys}, "adapter_name_or_path": str(folder), **more}


def weighted_by_peft(base, folder: Path, weights):
    """The reference for fixed weights: PEFT's own concatenation of the subspace adapters onto a base model."""
    from peft import PeftModel

    names = [f"k{k}" for k in range(len(weights))]
    model = PeftModel.from_pretrained(base, str(folder / "subspaces" / "0"), adapter_name=names[0])
    for k, name in list(enumerate(names))[1:]:
        model.load_adapter(str(folder / "subspaces" / str(k)), adapter_name=name)
    model.add_weighted_adapter(names, list(weights), adapter_name="sum", combination_type="cat")
    model.set_adapter("sum")
    return model.eval()


def outcome(output_dir: Path) -> dict[str, Any]:
    """All that a run leaves but times, by file; TensorBoard's scalars by tag and step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, Any] = {}
    for path in sorted(path for path in output_dir.rglob("*") if path.is_file()):
        name = str(path.relative_to(output_dir))
        if path.name in ("fcit_report.json", "progress.json"):
            found[name] = {key: value for key, value in json.loads(path.read_text()).items() if key != "seconds"}
        elif path.name == "trainer_log.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in line.items() if not k.endswith("_time")} for line in lines]
        elif path.name == "fcit_report.html":
            found[name] = "of the report, with its times"
        elif "tfevents" in path.name:
            reader = EventAccumulator(str(path))
            reader.Reload()
            for tag in reader.Tags()["scalars"]:
                for event in reader.Scalars(tag):
                    if found.setdefault(f"{tag} at step {event.step}", event.value) != event.value:
                        found[f"{tag} at step {event.step}"] = "differs between two starts of the run"
        elif path.name not in ("checksums.json", TYPED_YAML):  # sums of a file with times; only a recipe in a file was typed
            found[name] = path.read_bytes()
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what is not the same on both sides."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def trained_alone(keys: dict[str, Any], output_dir: Path, folder: Path) -> Path:
    """What LLaMA-Factory by itself learns from the data, the start and the seed of a run with one client and one round.

    Args:
        keys: The run's recipe.
        output_dir: What the run left.
        folder: Where to train.

    Returns:
        The output folder of a plain LLaMA-Factory run.
    """
    from safetensors.torch import load_file, save_file

    from fcit_plugin.adapters.lora import fresh_subspace
    from fcit_plugin.scenario.sampling import client_seed

    seed = keys.get("seed", 42)
    trained, start = output_dir / "subspaces" / "0", folder / "start"
    start.mkdir(parents=True)
    (start / "adapter_config.json").write_bytes((trained / "adapter_config.json").read_bytes())
    blank = load_file(trained / "adapter_model.safetensors")
    save_file(fresh_subspace(blank, seed=seed * 1_000_003), start / "adapter_model.safetensors", {"format": "pt"})
    plain = {key: value for key, value in keys.items() if not key.startswith("fcit_")}
    plain |= {"stage": keys.get("fcit_local_stage", "sft"), "dataset": keys["fcit_stages"][0][0]}
    plain |= {"adapter_name_or_path": str(start), "output_dir": str(folder / "plain"), "save_strategy": "no"}
    return run_recipe(plain | dict.fromkeys(("seed", "data_seed"), client_seed(seed, 0, 0, 0)))


def losses_of(output_dir: Path) -> list[float]:
    """The losses that a run, or LLaMA-Factory by itself, has logged."""
    lines = (output_dir / "trainer_log.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]
