"""Bad folders: the base model, the output of a run as adapter or server state, updates, and the output folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench import Bench, Case
from safetensors.torch import load_file, save_file

WEIGHTS = "subspaces/0/adapter_model.safetensors"
TENSOR = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
MANIFEST, TOKENS = "fcit_manifest.json", "identity_tokens.safetensors"

Change = Callable[[Path], Any]


def edit_json(name: str, **changes: Any) -> Change:
    """Changes values in a JSON file of a folder."""

    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def edit_tensors(name: str, edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    """Changes tensors in a safetensors file of a folder."""

    def change(folder: Path) -> None:
        save_file(edit(load_file(folder / name)), folder / name, metadata={"format": "pt"})

    return change


def remove(pattern: str) -> Change:
    """Removes files."""
    return lambda folder: [path.unlink() for path in folder.glob(pattern)]


def replace(name: str, content: bytes) -> Change:
    """Puts other bytes into a file."""
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str) -> Change:
    """Leaves half of a file."""

    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return change


def model(title: str, says: tuple[str, ...], change: Change, loads: bool = False) -> Case:
    """A base model whose folder is changed."""

    def spoil(b: Bench) -> dict[str, Any]:
        folder = b.copy_of(b.model, "model")
        change(folder)
        return {"model_name_or_path": str(folder)}

    return Case(title, says, spoil=spoil, loads=loads)


def adapter(
    title: str,
    says: tuple[str, ...],
    change: Change = lambda folder: None,
    command: str = "chat",
    loads: bool = False,
    **flags: Any,
) -> Case:
    """A run's folder as adapter of a command; flags replace those of a good command line, None takes one out."""

    def arguments(b: Bench) -> list[str]:
        folder = b.copy_of(b.finished, "run")
        change(folder)
        given = {"model_name_or_path": b.model, "template": "vicuna", "adapter_name_or_path": folder}
        if command == "export":
            given["export_dir"] = b.folder / "merged"
        given |= _called(flags, b)
        return [command, *(part for k, v in given.items() if v is not None for part in (f"--{k}", str(v)))]

    return Case(title, says, arguments=arguments, loads=loads)


def _called(values: dict[str, Any], b: Bench) -> dict[str, Any]:
    return {key: value(b) if callable(value) else value for key, value in values.items()}


def state(
    title: str,
    says: tuple[str, ...],
    change: Change = lambda folder: None,
    at_end: bool = False,
    loads: bool = False,
    **keys: Any,
) -> Case:
    """A run's folder as server state that a client starts from."""

    def spoil(b: Bench) -> dict[str, Any]:
        folder = b.copy_of(b.finished, "state")
        if not at_end:
            edit_json(MANIFEST, stage=0, round=0)(folder)
        change(folder)
        return {"stage": "fcit_client", "fcit_state_dir": str(folder), "fcit_client": 0} | _called(keys, b)

    return Case(title, says, spoil=spoil, loads=loads)


def update(title: str, says: tuple[str, ...], change: Change, **keys: Any) -> Case:
    """An update folder to fold in."""

    def spoil(b: Bench) -> dict[str, Any]:
        folder = b.copy_of(b.finished, "state")
        edit_json(MANIFEST, stage=0, round=0)(folder)
        given = min((folder / "updates").glob("stage0_round0*")).rename(b.folder / "update")
        change(given)
        return {"stage": "fcit_aggregate", "fcit_state_dir": str(folder), "fcit_update_dirs": str(given), **keys}

    return Case(title, says, spoil=spoil)  # the aggregator loads no model


def nan(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {TENSOR: tensors[TENSOR] * float("nan")}


def without_tensor(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in tensors.items() if key != TENSOR}


def narrow(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v[:, :16].contiguous() if v.dim() == 2 else v for k, v in tensors.items()}


MODELS = [
    Case("a model folder that is not there", ("/no/such/model",), {"model_name_or_path": "/no/such/model"}),
    Case("an unknown model name", ("`model_name_or_path` no/such-model",), {"model_name_or_path": "no/such-model"}),
    Case("a model that is a file", ("recipe.yaml",), spoil=lambda b: {"model_name_or_path": str(b.recipe)}),
    model("a model without config.json", ("/model", "config.json"), remove("config.json")),
    model("a model whose config.json is broken", ("/model", "config.json"), replace("config.json", b"{")),
    model("an unknown architecture", ("/model", "`lama`"), edit_json("config.json", model_type="lama")),
    model("a model without tokenizer", ("/model", "tokenizer"), remove("tokenizer*")),
    model("a model whose tokenizer is broken", ("/model", "tokenizer"), replace("tokenizer.json", b"{")),
    model("a model without weights", ("/model", "model.safetensors"), remove("*.safetensors")),
    model("truncated weights", ("/model/model.safetensors", "restore it from a backup"), cut("model.safetensors")),
    model(
        "weights that are none",
        ("/model/model.safetensors", "restore it from a backup"),
        replace("model.safetensors", b"x" * 99),
    ),
    model(
        "weights of another model",
        ("/model", "do not fit"),
        edit_json("config.json", intermediate_size=128),
        loads=True,
    ),
]

ADAPTERS = [
    adapter("a run without manifest", (MANIFEST, "No such file"), remove(MANIFEST)),
    adapter("a broken manifest", (MANIFEST,), replace(MANIFEST, b"{")),
    adapter("a manifest of a newer version", (MANIFEST, "99", "upgrade"), edit_json(MANIFEST, format_version=99)),
    adapter("a run of an older version", ("/run", "`format_version` 5", "recipe again"), edit_json(MANIFEST, format_version=5)),
    adapter("a subspace that is missing", (WEIGHTS, "restore it from a backup"), remove(WEIGHTS)),
    adapter("a truncated subspace", (WEIGHTS, "restore it from a backup"), cut(WEIGHTS)),
    adapter("a subspace file that is none", (WEIGHTS, "restore it from a backup"), replace(WEIGHTS, b"x" * 300)),
    adapter("a subspace without a tensor", ("subspaces/0", TENSOR), edit_tensors(WEIGHTS, without_tensor), loads=True),
    adapter(
        "a subspace tensor of another shape",
        ("subspaces/0", TENSOR, "lora_rank"),
        edit_tensors(WEIGHTS, lambda t: t | {TENSOR: torch.zeros(2, 64)}),
        command="export",
        loads=True,
    ),
    adapter("a subspace that is not finite", (WEIGHTS, TENSOR, "not finite"), edit_tensors(WEIGHTS, nan), loads=True),
    adapter("missing identity tokens", (TOKENS, "restore it from a backup"), remove(TOKENS)),
    adapter(
        "identity tokens of fewer subspaces",
        (TOKENS, "1 tokens for 2 subspaces"),
        edit_tensors(TOKENS, lambda t: {k: v[:1] for k, v in t.items()}),
    ),
    adapter("identity tokens of another encoder", (TOKENS, "16 numbers"), edit_tensors(TOKENS, narrow), loads=True),
    adapter("a missing adapter_config.json", ("subspaces/0/adapter_config.json",), remove("subspaces/0/*.json")),
    adapter(
        "an identity encoder that has gone",
        ("`fcit_trusted_encoder: /no/such`",),
        edit_json(MANIFEST, identity_encoder="/no/such"),
        loads=True,
    ),
    adapter("a base model of other shapes", ("/run", "base model"), model_name_or_path=lambda b: b.wider_model(), loads=True),
    adapter("a base model that is not there", ("/no/such",), model_name_or_path="/no/such", command="export"),
    adapter("an inference backend that is not installed", ("vllm", "pip install"), infer_backend="vllm"),
    adapter(
        "an export weight that is none",
        ("`fcit_export_weights` is '9'", "mean"),
        command="export",
        fcit_export_weights=9,
        loads=True,
    ),
    adapter("an export without a folder to write", ("`export_dir`",), command="export", export_dir=None),
    Case(
        "training on a run's output",
        ("`adapter_name_or_path`", "inference"),
        spoil=lambda b: b.plain_keys(adapter_name_or_path=str(b.finished)),
    ),
    Case(
        "a run's output beside another adapter",
        ("`adapter_name_or_path`", "cannot be combined"),
        spoil=lambda b: b.plain_keys(adapter_name_or_path=f"{b.finished},{b.model}"),
    ),
]

STATES = [
    state("a server state that is not there", ("/no/such", "that an fcit run has left"), fcit_state_dir="/no/such"),
    Case(
        "a PEFT folder as server state",
        ("subspaces/0", "that an fcit run has left"),
        spoil=lambda b: {
            "stage": "fcit_client",
            "fcit_state_dir": str(b.finished / "subspaces" / "0"),
            "fcit_client": 0,
        },
    ),
    state("a server state of another rank", ("/state", "lora_rank"), lora_rank=8, loads=True),
    state("a server state of another seed", ("`seed` is 7", "42", "same recipe"), seed=7),
    state("a finished run as server state", ("/state", "is finished"), at_end=True),
    state("a server state that is not finite", (WEIGHTS, "not finite"), edit_tensors(WEIGHTS, nan), loads=True),
    state(
        "an output folder that is the server state",
        ("`output_dir`", "`fcit_state_dir`"),
        output_dir=lambda b: str(b.folder / "state"),
    ),
    update("an update that is not there", ("/no/such",), lambda folder: None, fcit_update_dirs="/no/such"),
    update("an update without description", ("/update/fcit_update.json",), remove("*.json")),
    update("a corrupt update", ("/update/fcit_update.safetensors",), replace("fcit_update.safetensors", b"x")),
]

OUTPUT = [
    Case("an output folder that is a file", ("`output_dir`",), spoil=lambda b: {"output_dir": str(b.recipe)}),
    Case("an output folder below a file", ("`output_dir`",), spoil=lambda b: {"output_dir": str(b.recipe / "out")}),
    Case(
        "an output folder with results",
        ("`output_dir`", "`overwrite_output_dir: true`"),
        spoil=lambda b: {"output_dir": str(b.finished)},
    ),
]

CASES = [*MODELS, *ADAPTERS, *STATES, *OUTPUT]
