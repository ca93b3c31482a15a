"""Where checks work: a device, a folder, small recipes on the embedded models, and ways to run them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from ..samples.mini.build import base_model_path, mini_root
from ..samples.text import text_model_path, write_text_tasks
from ..shipped import shipped
from .check import hold

#: Records of a dataset that are trained on, and asked about.
TRAIN, TEST = 32, 4
_SMALL = {
    "fcit_num_clients": 4,
    "fcit_clients_per_round": 2,
    "fcit_num_rounds": 1,
    "fcit_partition": "iid",
    "fcit_min_client_samples": 8,
    "fcit_eval_samples": TEST,
    "fcit_zero_shot": False,
    "per_device_train_batch_size": 4,
    "num_train_epochs": 1.0,
    "warmup_ratio": 0.0,  # or the only step of a client would have a rate of 0
    "lora_dropout": 0.0,
    "max_new_tokens": 4,
    "logging_steps": 1,
    "save_total_limit": 0,
    "overwrite_output_dir": False,  # started again, a run goes on
    "disable_tqdm": True,
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str

    @property
    def sentence(self) -> str:
        """The plugin's own last words."""
        said = [line.partition("fcit-plugin: ")[2] for line in self.output.splitlines() if "fcit-plugin: " in line]
        return said[-1] if said else ""


@dataclass(frozen=True)
class Bench:
    """What a check is given.

    Attributes:
        device: ``cuda`` or ``cpu``.
        folder: Empty, for its files.
    """

    device: str
    folder: Path

    @property
    def is_gpu(self) -> bool:
        """Whether the device is one."""
        return self.device == "cuda"

    @cached_property
    def text_data(self) -> Path:
        """Folder of small text tasks."""
        folder = self.folder / "text_data"
        write_text_tasks(folder, train=TRAIN, test=TEST)
        return folder

    def text(self, name: str, **changes: Any) -> dict[str, Any]:
        """A recipe of two stages on the embedded Llama.

        Args:
            name: Of its output folder.
            changes: Keys; None takes one out.
        """
        keys = {
            "model_name_or_path": str(text_model_path()),
            "dataset_dir": str(self.text_data),
            "fcit_stages": [["text_last"], ["text_order"]],
        }
        return self._keys("fcit_text_tiny.yaml", name, keys | changes)

    def mini(self, name: str, **changes: Any) -> dict[str, Any]:
        """A recipe of two stages on the embedded LLaVA, whose projector is trained; see :meth:`text`."""
        keys = {
            "model_name_or_path": str(base_model_path()),
            "fcit_data_dir": str(mini_root(train=TRAIN, test=TEST)),
            "fcit_setting": "custom",
            "fcit_stages": [["fcit_arxivqa"], ["fcit_iconqa"]],
            "fcit_beta": None,
        }
        return self._keys("fcit_mini_disco.yaml", name, keys | changes)

    def _keys(self, recipe: str, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        keys = yaml.safe_load((shipped("recipes") / recipe).read_text(encoding="utf-8"))
        keys |= {**_SMALL, "output_dir": str(self.folder / name), **changes}
        if not self.is_gpu and keys.get("bf16"):
            keys["use_cpu"] = True  # or transformers looks for a GPU; with it DeepSpeed would not hear of other processes
        return {key: value for key, value in keys.items() if value is not None}

    def write(self, keys: Mapping[str, Any]) -> Path:
        """A recipe as a file, which is named after its output folder."""
        path = self.folder / f"{Path(keys['output_dir']).name}.yaml"
        path.write_text(yaml.safe_dump(dict(keys)), encoding="utf-8")
        return path

    def start(self, command: Sequence[str], processes: int = 0, cpu: bool = False) -> subprocess.Popen[str]:
        """Start a command of this Python.

        Args:
            command: What follows ``python -m``.
            processes: Of torchrun; 0: without it.
            cpu: Whether it is not to see the GPU.
        """
        own = {"FORCE_TORCHRUN": str(int(processes > 0)), "NPROC_PER_NODE": str(processes or 1)}
        if cpu or not self.is_gpu:
            own["CUDA_VISIBLE_DEVICES"] = ""
        elif not processes:  # with more, LLaMA-Factory would start a process for each
            own["CUDA_VISIBLE_DEVICES"] = os.environ["CUDA_VISIBLE_DEVICES"].partition(",")[0]
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def call(self, command: Sequence[str], processes: int = 0, cpu: bool = False) -> Ended:
        """Run a command to its end; its output is passed on, too. See :meth:`start`."""
        process = self.start(command, processes, cpu)
        output, _ = process.communicate()
        print(output, flush=True)
        return Ended(process.returncode, output)

    def try_to_train(self, keys: Mapping[str, Any], processes: int = 0, cpu: bool = False) -> Ended:
        """Run a recipe in a process of its own, as ``fcit-cli train`` does; see :meth:`start`."""
        recipe = self.write(self._over_gloo(keys, processes))
        return self.call(["fcit_plugin.cli", "train", str(recipe)], processes, cpu)

    def probe(self, name: str, keys: Mapping[str, Any], processes: int = 0, found: Path | None = None) -> Ended:
        """Run a recipe in processes of its own that are looked into, or disturbed.

        Args:
            name: One of :data:`fcit_plugin.gpu_check.probes.PROBES`.
            keys: The recipe.
            processes: Of torchrun; 0: without it.
            found: File for what the probe finds.
        """
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"] if processes else []
        given = [name, str(self.write(self._over_gloo(keys, processes))), self.device, str(found)]
        return self.call([*torchrun, "fcit_plugin.gpu_check.probes", *given])

    def _over_gloo(self, keys: Mapping[str, Any], processes: int) -> dict[str, Any]:
        """A recipe whose processes can talk to each other on a CPU."""
        return {**keys, "ddp_backend": "gloo"} if processes and not self.is_gpu else dict(keys)

    def train(self, keys: Mapping[str, Any], processes: int = 0, cpu: bool = False) -> Path:
        """Run a recipe that is to succeed, and give its output folder; see :meth:`start`.

        Raises:
            NotHeldError: It failed.
        """
        ended = self.try_to_train(keys, processes, cpu)
        hold(ended.code == 0, f"the run {Path(keys['output_dir']).name} ended with {ended.code}: {ended.sentence}")
        return Path(keys["output_dir"])

    def train_here(self, keys: Mapping[str, Any], callbacks: Sequence[Any] = ()) -> Path:
        """Run a recipe in this process, which saves the imports, and give its output folder.

        Args:
            keys: The recipe.
            callbacks: See each client's training.
        """
        from llamafactory.train.tuner import run_exp

        before = dict(os.environ)
        try:
            run_exp(dict(keys), callbacks=list(callbacks))
        finally:
            os.environ.clear()
            os.environ.update(before)  # LLaMA-Factory and the Trainer leave marks in it
        return Path(keys["output_dir"])

    def deepspeed(self, stage: str, **changes: Any) -> str:
        """A DeepSpeed configuration that ships with the package, changed.

        Args:
            stage: z2, z3, z2_offload or z3_offload.
            changes: Sections of it.
        """
        given = json.loads((shipped("recipes") / "deepspeed" / f"ds_{stage}_config.json").read_text(encoding="utf-8"))
        path = self.folder / f"ds_{stage}_{len(changes)}.json"
        path.write_text(json.dumps(given | changes), encoding="utf-8")
        return str(path)

    def allocated(self) -> int:
        """Bytes of tensors in this process: on the GPU; on the CPU of those that came after the last ``gc.freeze``."""
        import gc

        gc.collect()
        if self.is_gpu:
            torch.cuda.synchronize()
            return torch.cuda.memory_allocated()
        storages = {id(t.untyped_storage()._cdata): t.untyped_storage() for t in gc.get_objects() if type(t) in _TENSORS}
        return sum(storage.nbytes() for storage in storages.values())


_TENSORS = (torch.Tensor, torch.nn.Parameter)
