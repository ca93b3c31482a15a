"""What decides a run's numbers: the recipe's keys, the data, the base model. A run goes on only where they are the same."""

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from llamafactory.extras import logging

from ..adapters.lora import whole_weight
from ..arguments import FcitArguments
from ..data.pipeline import Pipeline, Split
from ..errors import FcitError

logger = logging.get_logger(__name__)

#: What decides beside the keys of a recipe, as commits and reports call it.
NUM_PROCESSES, BASE_MODEL, EARLIER_RUN = "num_processes", "base_model_fingerprint", "earlier_run_fingerprint"
#: How the records of a step are shared out, which a run may change as long as a step takes as many: it goes on with less
#: memory, or on another number of devices. What a batch holds together decides in other ways, too, under these keys.
_SHARED_OUT = (NUM_PROCESSES, "per_device_train_batch_size", "gradient_accumulation_steps")
_BY_BATCH = {"dataloader_drop_last": False, "fcit_local_stage": "sft"}
#: Keys that a recipe may leave to the base model (:mod:`.settling`), and where a state's manifest holds what they became.
SETTLED = {"fcit_identity_encoder": "identity_encoder", "fcit_similarity_threshold": "similarity_threshold"}
#: What they are called in a sentence, and by :func:`dataset_key` the parts of a dataset.
_IN_WORDS = {
    NUM_PROCESSES: "the number of processes",
    BASE_MODEL: "the fingerprint of `model_name_or_path`",
    EARLIER_RUN: "the fingerprint of the run in `adapter_name_or_path`",
}
_PARTS_IN_WORDS = {
    "train": "the training set of `{}`",
    "test": "the test set of `{}`",
    "metrics": "the scoring of `{}`",
}

#: Keys that may differ: where things lie and are shown, how much memory evaluation takes, what an fcit stage sets itself.
#: All others count, also those of a later LLaMA-Factory: better refused for nothing than gone on with other numbers.
FREE = (
    # output and logging
    "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "save_*", "plot_loss", "push_to_hub", "hub_*",
    "logging_*", "log_*", "report_to", "run_name", "project", "trackio_*", "*swanlab*", "disable_tqdm", "debug",
    "*profile*", "print_param_status", "skip_memory_metrics", "include_*", "fcit_keep_client_updates", "fcit_save_predictions",
    "fcit_engine", "fcit_sites", "fcit_superlink*", "fcit_certificate", "fcit_server_certificate", "fcit_server_key",
    "fcit_site_*",
    "fcit_threads", "fcit_clients_per_device", "fcit_batch_size",
    "fcit_dry_run", "fcit_strict_records", "fcit_verify_data", "fcit_client_timeout", "fcit_max_round_retries",
    # folders: what lies in them is compared instead
    "model_name_or_path", "dataset_dir", "media_dir", "cache_dir", "offload_folder", "fcit_data_dir",
    # processes and loading
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor",
    "preprocessing_num_workers", "overwrite_cache", "data_shared_file_system", "local_rank",
    "ddp_*",
    "ray_*", "master_*", "device_map",
    # evaluation is ours, and greedy
    "per_device_eval_batch_size", "eval_*", "do_*", "temperature", "top_?", "num_beams", "max_length", "*_penalty",
    "skip_special_tokens", "generation_*", "predict_with_generate", "infer_*", "vllm_*", "sglang_*", "export_*",
    "use_kv_cache", "sortish_sampler", "prediction_loss_only", "batch_eval_metrics",
    # resuming is ours
    "ignore_data_skip", "restore_callback_states_from_checkpoint",
    # never on disk
    "*_token", "*_api_key", "*_secret",
)  # fmt: skip


def deciding_keys(parts: Iterable[Any], world_size: int) -> dict[str, Any]:
    """The keys that count and are not at their default.

    Args:
        parts: LLaMA-Factory's argument objects, and ours.
        world_size: Number of processes: it takes part in the batch size.

    Returns:
        Parsed values by key, JSON-friendly.
    """
    found: dict[str, Any] = {NUM_PROCESSES: world_size}
    for part in parts:
        for item in dataclasses.fields(part):
            value = _plain(getattr(part, item.name))
            if value != _default(item) and not any(fnmatchcase(item.name, pattern) for pattern in FREE):
                found[item.name] = value
    return found


def dataset_key(name: str, part: str) -> str:
    """The key of what decides about a dataset.

    Args:
        name: The dataset.
        part: "train" for its training records, "test" for its test records, "metrics" for how it is scored.
    """
    return f"datasets.{name}.{part}"


def data_keys(pipeline: Pipeline, trained: Iterable[str], tested: Iterable[str]) -> dict[str, str]:
    """What decides about each dataset: the number of its records with a sum over them, and how it is scored.

    Args:
        pipeline: The records.
        trained: Datasets whose training records are there.
        tested: Datasets whose test records are.
    """
    found = {dataset_key(name, "train"): data_fingerprint(pipeline.train(name)) for name in trained}
    for name in tested:
        metrics = pipeline.catalogue.metrics(name)
        found[dataset_key(name, "test")] = data_fingerprint(pipeline.test(name))
        found[dataset_key(name, "metrics")] = ", ".join([metrics.main, *metrics.also])
    return found


def names(base_model: str, data_args: Any, args: FcitArguments) -> dict[str, str]:
    """Base model and data by the names that they have in the recipe: so a report tells them, for people to compare.

    Args:
        base_model: As the recipe has it.
        data_args: LLaMA-Factory's data arguments.
        args: Ours.
    """
    data_dir = args.fcit_data_dir or os.environ.get("FCIT_DATA_DIR")
    found = {"model_name_or_path": base_model, "fcit_data_dir": data_dir, "dataset_dir": data_args.dataset_dir}
    defaults = {item.name: _default(item) for item in dataclasses.fields(data_args)}
    return {key: str(value) for key, value in found.items() if value and value != defaults.get(key)}


def fingerprint(model: torch.nn.Module) -> str:
    """Tells one base model from another: by names, shapes and first numbers of its weights."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            with whole_weight(parameter) as weight:
                first = weight.detach().flatten()[:16].to("cpu", torch.float32)
                digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode() + first.numpy().tobytes())
    return digest.hexdigest()[:16]


def check_same(saved: Mapping[str, Any], ours: Mapping[str, Any], parts: Iterable[Any], commit: Path) -> None:
    """Refuse to go on with another recipe.

    Args:
        saved: What the commit was made with.
        ours: The same of this recipe.
        parts: The argument objects, for the defaults of keys that one side leaves out.
        commit: The commit.

    Raises:
        FcitError: The sentence lists every key that differs, with both values.
    """
    parts = tuple(parts)
    keys = saved.keys() | ours.keys()
    free = keys & {*_SHARED_OUT} if numbers(saved, parts) == numbers(ours, parts) else set()
    moved = differing(saved, ours, parts, free)
    if moved:
        logger.warning_rank0(
            f"The run goes on from {commit}, where {'; '.join(moved)}: a step takes as many records as before, and its "
            "numbers may differ in their last digits."
        )
    found = differing(saved, ours, parts, keys - free)
    if found:
        raise FcitError(
            f"The run cannot go on from {commit}, for it would give other numbers: {'; '.join(found)}. "
            "Take these back, or begin again in another `output_dir` or with `overwrite_output_dir: true`."
        )


def numbers(keys: Mapping[str, Any], parts: Iterable[Any]) -> dict[str, Any]:
    """The deciding keys with the records of a step in place of how these are shared out, where that does not matter.

    Args:
        keys: Of :func:`deciding_keys`.
        parts: The argument objects, for defaults.
    """
    defaults = {item.name: _default(item) for part in parts for item in dataclasses.fields(part)}
    values = defaults | dict(keys)
    if any(values.get(key, value) != value for key, value in _BY_BATCH.items()):
        return dict(keys)
    rest = {key: value for key, value in keys.items() if key not in _SHARED_OUT}
    return {**rest, "records_a_step": math.prod(values.get(key, 1) for key in _SHARED_OUT)}


def differing(
    saved: Mapping[str, Any],
    ours: Mapping[str, Any],
    parts: Iterable[Any],
    keys: Iterable[str],
    words: str = "{0} was {1!r} and is {2!r}",
) -> list[str]:
    """Which of some keys differ between two recipes, in words; see :func:`check_same`.

    Args:
        saved: What the commit was made with.
        ours: The same of this recipe.
        parts: The argument objects, for the defaults of keys that one side leaves out.
        keys: Those to look at.
        words: What is said of each that differs: of its name, and its two values.
    """
    defaults = {item.name: _default(item) for part in parts for item in dataclasses.fields(part)}
    return [
        words.format(_in_words(key), then, now)
        for key in sorted(keys)
        if (then := saved.get(key, defaults.get(key))) != (now := ours.get(key, defaults.get(key)))
    ]


def _in_words(key: str) -> str:
    """What a deciding key is called in a sentence."""
    dataset = re.fullmatch(rf"datasets\.(.+)\.({'|'.join(_PARTS_IN_WORDS)})", key)
    return _PARTS_IN_WORDS[dataset[2]].format(dataset[1]) if dataset else _IN_WORDS.get(key, f"`{key}`")


def digest_of(keys: Mapping[str, Any]) -> str:
    """One short name for all that decides."""
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:16]


def _default(item: dataclasses.Field) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return _plain(item.default_factory())
    return None if item.default is dataclasses.MISSING else _plain(item.default)


def _plain(value: Any) -> Any:
    """A parsed value as JSON gives it back."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    return json.loads(json.dumps(value, sort_keys=True, default=lambda other: getattr(other, "value", None) or str(other)))


def data_fingerprint(split: Split) -> str:
    """The number of records, and a sum over their tokens, their answers, and the names and sizes of their files."""
    digest = hashlib.sha256()
    for batch in split.features.with_format("arrow").iter(batch_size=1000):
        for column in sorted(name for name in batch.column_names if name.endswith(("input_ids", "labels"))):
            # `datasets` is free to keep the same tokens as 32 or as 64 bits
            tokens = batch[column].combine_chunks().flatten().cast(pa.int64())
            digest.update(tokens.to_numpy(zero_copy_only=False).tobytes())
        if "kto_tags" in batch.column_names:
            digest.update(bytes(batch["kto_tags"].to_pylist()))
        for column in ("images", "videos", "audios"):
            for row in batch[column].to_pylist() if column in batch.column_names else ():
                digest.update(b"".join(_of_file(item) for item in row or ()) + b"\0")
    digest.update("\0".join(map(str, split.answers)).encode("utf-8", "surrogatepass"))
    return f"{len(split)} records, {digest.hexdigest()[:16]}"


def _of_file(item: Any) -> bytes:
    """Name and size of a media file; its folder may differ."""
    path = Path(item) if isinstance(item, str) else None
    if path is None or not path.is_file():
        return hashlib.sha256(repr(item).encode()).digest()
    return f"{path.name} {path.stat().st_size};".encode()
