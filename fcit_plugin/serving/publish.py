"""``fcit-cli publish``: of an output folder what serving needs, and a report that tells of no client and no record.

What is given away is listed here, key by key and file by file; whatever else a run leaves, and all that later versions add to
it, stays at home.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FcitError
from ..evaluation.card import is_hub_id, model_card
from ..evaluation.report import CARD, REPORT_JSON, Report
from ..files import read_text, write_text
from ..folders import check_empty
from ..knowledge.identity_tokens import SubspaceTokens
from ..knowledge.own_cosines import of_a_hundred
from ..knowledge.prototypes import Prototypes
from ..plugins import registry
from ..recipe.embedded import EMBEDDED_MODELS
from ..state.folder import PUBLISHED, StateFolder
from ..state.forms import AdapterConfig
from ..state.names import SHARED
from ..state.sealed import seal
from ..state.server_state import ServerState, save_state

#: Keys of a recipe, with values that are numbers or words.
_ARGUMENTS = (
    "model_name_or_path", "template", "cutoff_len", "max_new_tokens", "packing",
    "learning_rate", "num_train_epochs", "max_steps", "lr_scheduler_type", "warmup_ratio", "warmup_steps", "optim",
    "per_device_train_batch_size", "gradient_accumulation_steps", "num_processes", "weight_decay", "max_grad_norm", "bf16",
    "fp16", "lora_rank", "lora_alpha", "lora_dropout", "lora_target", "use_rslora", "quantization_bit", "quantization_method",
    "freeze_vision_tower", "freeze_multi_modal_projector",
    "fcit_local_stage", "fcit_task_order", "fcit_num_clients", "fcit_clients_per_round", "fcit_num_rounds",
    "fcit_partition", "fcit_beta", "fcit_projector_learning_rate", "fcit_similarity_threshold", "fcit_max_subspaces",
    "fcit_activation", "fcit_temperature", "fcit_identity_source", "fcit_identity_pooling", "fcit_identity_center",
    "fcit_identity_unit", "fcit_max_new_subspaces", "fcit_max_count_ratio", "fcit_later_rounds",
    "fcit_identity_turns", "fcit_identity_form", "fcit_identity_min_records", "fcit_server_rule", "fcit_round_order",
    "fcit_schedule_over",
    "fcit_lora_aggregation", "fcit_update_compression", "fcit_dp_clipping_norm",
    "fcit_dp_noise_multiplier", "fcit_identity_noise", "fcit_dp_delta", "fcit_eval_every", "fcit_eval_samples",
    "fcit_eval_likelihood", "fcit_eval_restricted", "fcit_zero_shot",
    "fcit_ewc_lambda", "fcit_lwf_alpha", "fcit_lwf_temperature", "fcit_o_lora_lambda", "fcit_num_experts", "fcit_proximal_mu",
    "fcit_ties_density", "fcit_ties_lambda", "fcit_lamol_gamma", "fcit_lamol_lambda", "fcit_lamol_top_k",
    "fcit_lamol_max_tokens", "fcit_c_lora_lambda",
    "fcit_server_learning_rate", "fcit_server_momentum", "fcit_server_tau", "fcit_server_beta1", "fcit_server_beta2",
    "fcit_trim_fraction", "fcit_num_malicious", "fcit_clip_quantile",
)  # fmt: skip
#: Keys of the report: True for a whole value, False for one that is a number, a word or a list of these, else the keys of what
#: stands there. Not the seed: from it, with the rest of a recipe, anybody draws the clients of each round again. Of what noise
#: comes to that of the whole run: stage by stage it would tell when somebody took part most.
REPORT: dict[str, Any] = {
    **dict.fromkeys(
        ("stages", "accuracy", "accuracy_restricted", "likelihood", "likelihood_untuned", "scores_other", "zero_shot"), True
    ),
    **dict.fromkeys(("method", "reference", "setting", "datasets", "last", "avg", "forgetting", "bwt", "fwt"), False),
    **dict.fromkeys(("bytes_up", "bytes_down"), False),
    "arguments": dict.fromkeys(_ARGUMENTS, False),
    "earlier": {"stage": False, "arguments": dict.fromkeys(_ARGUMENTS, False)},
    "privacy": {
        **dict.fromkeys(("clipping_norm", "noise_multiplier", "identity_noise", "noise", "delta", "relation"), False),
        "total": dict.fromkeys(("epsilon_updates", "epsilon_tokens", "epsilon", "epsilon_sampled"), False),
    },
    "seconds": dict.fromkeys(("total", "train", "evaluate"), False),
    "spread": dict.fromkeys(("last", "avg", "forgetting", "bwt", "fwt"), False),
}
#: Keys of the manifest beside those of the state itself: what serving and ``fcit-cli join`` read.
MANIFEST_KEYS = (
    "plugin_version", "template", "base_fingerprint", "base_sample", "stages", "rounds", "scenario", "activation",
    "temperature", "method", "setting", "similarity_threshold", "identity_source", "identity_pooling", "identity_center",
    "identity_unit", "identity_turns", "identity_form", "identity_form_version",
)  # fmt: skip
_IMAGES = "image-text-to-text"


def publish(folder: Path, out: Path, *, model: str | None = None, encoder: str | None = None) -> None:
    """Write a sealed folder that can be given away.

    The weights and what routes to them are those of the run, bit by bit. Left out are the seed, the numbers of clients and
    records behind each subspace, what the server and the clients remember, label sets, logs, commits and kept updates.

    Args:
        folder: Output folder of a finished run, or one that ``fcit-cli join`` has made.
        out: The folder to write; new or empty.
        model: Name of the base model for those who get it; None: the one that the run names, of a folder its last part.
        encoder: The same for the text encoder of the identity tokens, which has no default where it is a folder.

    Raises:
        FcitError: There is nothing to publish, the encoder's name means nothing to others, or ``out`` holds something.
    """
    check_empty(out)
    source = StateFolder(folder)
    joined = "joined" in source.manifest
    if not joined:
        source.check_whole()
    source.check_trained()
    scenario = source.finished_scenario()
    state, manifest = source.load(), source.manifest
    base_model = model or public_name(manifest["base_model"] or "")
    encoder = encoder or public_encoder(manifest["identity_encoder"], "give --encoder NAME")
    report, metrics = _report(source), {} if joined else _metrics(source)
    given = listed(report, REPORT)
    for part in (given, *given.get("earlier", ())):
        if "model_name_or_path" in part.get("arguments", {}):
            part["arguments"]["model_name_or_path"] = base_model
    public = Report.from_dict(given)
    about = {key: manifest[key] for key in MANIFEST_KEYS if key in manifest}
    about |= {"base_model": base_model, "identity_encoder": encoder, "scenario": scenario.to_dict(), PUBLISHED: True}
    card = model_card(
        public,
        base_model,
        manifest["template"],
        metrics=metrics,
        pipeline_tag=_IMAGES if _takes_images(source) else "text-generation",
        shared=SHARED if state.shared else None,
        num_subspaces=len(state.subspaces),
    )

    def write(partial: Path) -> None:
        if (folder / REPORT_JSON).is_file():
            public.write(partial, keys=given)
        write_text(partial / CARD, f"{card}\n")
        save_state(_given_away(state), partial, _adapter_config(source, base_model), about)

    seal(out, write, replace=False)


def public_name(name: str) -> str:
    """The name of a model for others: of a folder the last part of its path."""
    return name if name in EMBEDDED_MODELS or is_hub_id(name) else re.split(r"[/\\]", name.rstrip("/\\"))[-1]


def public_encoder(name: str, remedy: str) -> str:
    """The name of a text encoder for others.

    Args:
        name: As the run has it.
        remedy: What to do about a folder, for the sentence.

    Raises:
        FcitError: It is a folder, which nobody else has.
    """
    if name not in registry("identity_encoders") and public_name(name) != name:
        raise FcitError(
            f"The identity tokens are made by the text encoder in {name}, a folder that others do not have; {remedy} with the "
            "name that it has on the Hugging Face Hub."
        )
    return name


def _report(source: StateFolder) -> dict[str, Any]:
    """The report of the folder's run; of a joined folder, which has none, what its manifest says of one."""
    if "joined" not in source.manifest:
        return Report.read(source.path).to_dict()
    stages, names = source.manifest["stages"], source.scenario.all_datasets()
    nothing: dict[str, Any] = dict.fromkeys(("last", "avg", "forgetting", "bwt", "fwt"))
    nothing |= {"bytes_up": 0, "bytes_down": 0, "seconds": {"total": 0.0, "train": 0.0, "evaluate": 0.0}}
    about = {"method": source.manifest["method"], "setting": source.scenario.name, "stages": stages, "datasets": [*names]}
    return {**about, **nothing, "accuracy": [], "zero_shot": {}}


def listed(values: Any, keys: Mapping[str, Any]) -> Any:
    """Of plain JSON values what is listed, at every depth, as in :data:`REPORT`; of a list that of each object in it."""
    if isinstance(values, list):
        return [listed(value, keys) for value in values]
    if not isinstance(values, dict):
        return None
    found = {}
    for key, part in keys.items():
        if key in values:
            value = listed(values[key], part) if isinstance(part, dict) else values[key]
            if part or _is_plain(value):
                found[key] = value
    return found


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a word or a list of these: a setting, and no object with keys of its own."""
    items = value if isinstance(value, list) else [value]
    return all(item is None or isinstance(item, bool | int | float | str) for item in items)


def _metrics(source: StateFolder) -> dict[str, str]:
    """The metric that gave each dataset's score."""
    found: dict[str, str] = {}
    for recipe in source.progress().recipes:
        for key, value in recipe.get("data", {}).items():
            if (dataset := re.fullmatch(r"datasets\.(.+)\.metrics", key)) is not None:
                found[dataset[1]] = str(value).partition(",")[0]
    return found


def _takes_images(source: StateFolder) -> bool:
    """Whether the run's own card says so."""
    card = source.path / CARD
    return source.manifest["identity_source"] != "text" or (
        card.is_file() and f"\npipeline_tag: {_IMAGES}\n" in read_text(card)
    )


def _given_away(state: ServerState) -> ServerState:
    """The state with what serving computes with; each count is 1 where something was counted."""
    counts = np.minimum(state.tokens.counts, 1)
    kinds = state.tokens.kinds
    if kinds is not None:
        kinds = tuple(Prototypes(part.means, np.minimum(part.counts, 1)) for part in kinds)
    return ServerState(
        tokens=SubspaceTokens(state.tokens.tokens, counts, kinds),
        shared=state.shared,
        subspaces=state.subspaces,
        stage=state.stage,
        round=state.round,
        tasks=[dict.fromkeys(sorted(tasks), 1) for tasks in state.tasks],
        base=state.base,
        projectors=state.projectors,
        alone=dict.fromkeys(state.alone),  # that it is one client's, and not whose
        own_cosines={k: of_a_hundred(counts) for k, counts in state.own_cosines.items()},
    )


def _adapter_config(source: StateFolder, base_model: str) -> dict[str, Any]:
    held: Collection[str] = AdapterConfig.__annotations__.keys()
    found = {key: value for key, value in source.adapter_config.items() if key in held}
    return {**found, "base_model_name_or_path": base_model, "bias": "none", "inference_mode": True}
