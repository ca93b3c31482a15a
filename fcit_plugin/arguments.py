"""Every ``fcit_*`` key of a recipe: its type, its default, its help, its checks."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, get_args, get_type_hints

from .plugins import registry

#: The LLaMA-Factory stages that the plugin adds, and what each does.
FCIT_STAGES = {
    "fcit": "the whole federated continual loop",
    "fcit_client": "one client, one round: from a server state folder to an update folder",
    "fcit_aggregate": "the aggregator: folds update folders into the next server state folder",
}

#: Keys whose values are registered names (:mod:`fcit_plugin.plugins`), and of which kind. Not in the fields' metadata,
#: for LLaMA-Factory's argument parser hands that to argparse.
_REGISTERED = {"fcit_partition": "partitioners", "fcit_server_rule": "server_rules"}


def _option(default: Any, help: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class FcitArguments:
    r"""Arguments of federated continual instruction tuning.

    They stand beside LLaMA-Factory's own keys, which keep their meaning for each client's local training.

    Raises:
        ValueError: A key has a value that cannot work; the sentence names the key and what to do.
    """

    # scenario: who has which data when
    fcit_setting: str = _option(
        "task_hom", "Which tasks arrive in which stage.", choices=["task_hom", "task_het", "cap_hom", "cap_het", "custom"]
    )
    fcit_task_order: str = _option(
        "paper", "Order of the setting's tasks: paper, research_code, or their names, comma-separated or as a list."
    )
    fcit_stages: str | None = _option(
        None, "For the setting custom: list of stages, each a list of data set names, e.g. [[a], [b, c]]."
    )
    fcit_schedule: str | None = _option(
        None,
        "For the setting custom, heterogeneous: for each stage the tasks (0-based, as in fcit_stages) "
        "of the selected clients, e.g. [[0, 1], [1, 1]].",
    )
    fcit_data_dir: str | None = _option(
        None,
        "Root of the FCIT benchmark (instructions/ and datasets/). "
        "Default: the environment variable FCIT_DATA_DIR, else the embedded FCIT-mini.",
    )
    fcit_num_clients: int = _option(50, "Number of clients.")
    fcit_clients_per_round: int = _option(5, "Number of clients sampled in each round.")
    fcit_num_rounds: int = _option(10, "Number of rounds in each stage.")
    fcit_partition: str = _option(
        "quantity", "How a task's records are split over the clients: quantity, iid, or a registered one."
    )
    fcit_beta: float = _option(1.0, "Dirichlet concentration of the quantity partition: small means skewed.")
    fcit_min_client_samples: int = _option(50, "Fewest records of a client; smaller ones are topped up.")

    # method
    fcit_projector_learning_rate: float | None = _option(
        None, "Learning rate of the shared trainables (multimodal projector), default: learning_rate."
    )
    fcit_method: str = _option(
        "disco", "Continual method: disco, or fedavg (sequential tuning of one LoRA).", choices=["disco", "fedavg"]
    )
    fcit_server_rule: str = _option(
        "fedavg", "Flower strategy that averages the updates of a subspace: fedavg, or a registered one."
    )
    fcit_similarity_threshold: float = _option(0.9, "Cosine at which a client's identity token matches a subspace.")
    fcit_max_subspaces: int | None = _option(None, "Upper bound of the number of subspaces (default: none).")
    fcit_activation: str = _option(
        "softmax",
        "How an instruction weights the subspaces at inference.",
        choices=["softmax", "argmax", "cosine", "concat"],
    )
    fcit_temperature: float = _option(0.05, "Temperature of the softmax activation.")
    fcit_identity_encoder: str = _option(
        "embedding",
        "What turns an instruction into an identity token: embedding (the base model's own input embeddings), "
        "minilm (extra [real]), or the path or name of a Hugging Face text encoder.",
    )
    fcit_identity_pooling: str = _option(
        "mean", "Pooling of a Hugging Face text encoder.", choices=["mean", "eos"]
    )
    fcit_identity_center: bool = _option(
        True, "Take away from identity tokens what all instructions share, by a public reference; false: raw tokens."
    )

    # evaluation and output
    fcit_eval_every: str = _option("stage", "When to evaluate the seen data sets.", choices=["stage", "round", "never"])
    fcit_eval_samples: int | None = _option(None, "Evaluate on the first n test records of each data set (default: all).")
    fcit_eval_restricted: bool = _option(
        True, "Also score with answers restricted to the data set's own label set, where it has one."
    )
    fcit_zero_shot: bool = _option(True, "Evaluate the untuned model first.")
    fcit_keep_client_updates: bool = _option(False, "Keep every client's update as an update folder in output_dir/updates.")

    # federation by folders
    fcit_state_dir: str | None = _option(None, "Server state folder to start from (stages fcit_client, fcit_aggregate).")
    fcit_client: int | None = _option(None, "Number of the client to train (stage fcit_client).")
    fcit_update_dirs: str | None = _option(None, "Update folders to fold in, a list or comma-separated (stage fcit_aggregate).")

    # inference
    fcit_export_weights: str | None = _option(
        None, "For export: the id of one subspace, a list of weights, or mean (default: mean)."
    )

    def __post_init__(self) -> None:
        self.fcit_stages = _nested_list("fcit_stages", self.fcit_stages)
        self.fcit_schedule = _nested_list("fcit_schedule", self.fcit_schedule)
        if isinstance(self.fcit_update_dirs, str):
            self.fcit_update_dirs = _comma_separated(self.fcit_update_dirs)
        if isinstance(self.fcit_task_order, str) and "," in self.fcit_task_order:
            self.fcit_task_order = _comma_separated(self.fcit_task_order)
        if self.fcit_export_weights is not None and not isinstance(self.fcit_export_weights, list):
            self.fcit_export_weights = str(self.fcit_export_weights)
        self.fcit_identity_encoder = str(self.fcit_identity_encoder)
        self._check_types()
        self._check_choices()
        self._check_ranges()
        self._check_contradictions()

    def _check_types(self) -> None:
        for name, hint in get_type_hints(type(self)).items():  # HfArgumentParser changes the types of the fields
            value, kinds = getattr(self, name), get_args(hint) or (hint,)
            expected = kinds[0].__name__
            if value is None and type(None) not in kinds:
                raise ValueError(f"`{name}` has no value; give one of type {expected}, or take the key out.")
            allowed = {int: int, float: (int, float), bool: bool}.get(kinds[0])
            wrong_bool = isinstance(value, bool) and kinds[0] is not bool
            if value is not None and allowed and (wrong_bool or not isinstance(value, allowed)):
                raise ValueError(f"`{name}` takes a value of type {expected}, got {value!r}.")

    def _check_choices(self) -> None:
        for item in fields(self):
            value, kind = getattr(self, item.name), _REGISTERED.get(item.name)
            choices = sorted(registry(kind)) if kind else item.metadata.get("choices")
            if choices and value not in choices:
                raise ValueError(f"`{item.name}` is {value!r}; {_nearest(str(value), choices)}")

    def _check_ranges(self) -> None:
        for name in ("fcit_num_clients", "fcit_clients_per_round", "fcit_num_rounds", "fcit_min_client_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("fcit_beta", "fcit_temperature", "fcit_projector_learning_rate"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be greater than 0, got {getattr(self, name)}.")
        for name in ("fcit_max_subspaces", "fcit_eval_samples"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, or left out for no limit, got {getattr(self, name)}.")
        if not -1 < self.fcit_similarity_threshold <= 1:
            raise ValueError(
                f"`fcit_similarity_threshold` is a cosine between -1 and 1, got {self.fcit_similarity_threshold}."
            )

    def _check_contradictions(self) -> None:
        if self.fcit_clients_per_round > self.fcit_num_clients:
            raise ValueError(
                f"`fcit_clients_per_round` ({self.fcit_clients_per_round}) is larger than "
                f"`fcit_num_clients` ({self.fcit_num_clients}); lower it or add clients."
            )
        if self.fcit_setting == "custom" and not self.fcit_stages:
            raise ValueError("`fcit_setting: custom` needs `fcit_stages`, a list of stages with data set names.")
        if self.fcit_setting != "custom" and (self.fcit_stages or self.fcit_schedule):
            key = "fcit_stages" if self.fcit_stages else "fcit_schedule"
            raise ValueError(f"`{key}` is only used with `fcit_setting: custom`; the setting is {self.fcit_setting}.")

    def to_dict(self) -> dict[str, Any]:
        """All keys and values, as JSON-friendly types."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def _comma_separated(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _nested_list(key: str, value: Any) -> Any:
    """A list of lists, given as such (YAML) or as JSON text (command line)."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"`{key}` is not a list of lists in JSON: {error}.") from error
    if value is not None and not (isinstance(value, list) and all(isinstance(row, list) for row in value)):
        raise ValueError(f"`{key}` must be a list of lists, e.g. [[a], [b]], got {value!r}.")
    return value


def _nearest(name: str, candidates: list[str]) -> str:
    match = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    hint = f"did you mean `{match[0]}`? " if match else ""
    return f"{hint}Valid: {', '.join(candidates)}."


def check_names(names: Iterable[str], others: Iterable[str] = ()) -> None:
    """Refuse unknown keys.

    Args:
        names: The keys given.
        others: Valid keys beside ours.

    Raises:
        ValueError: One sentence that names the key and the nearest valid one.
    """
    valid = [*(item.name for item in fields(FcitArguments)), *others]
    for name in names:
        if name not in valid:
            match = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)
            raise ValueError(f"Unknown key `{name}` in the recipe; the nearest valid key is `{match[0]}`.")


#: Keys that mean something in one fcit stage alone, or also without any.
_ONLY_IN = {
    "fcit_state_dir": ("fcit_client", "fcit_aggregate"),
    "fcit_client": ("fcit_client",),
    "fcit_update_dirs": ("fcit_aggregate",),
    "fcit_export_weights": (None,),
}
_ANYWHERE = ("fcit_data_dir",)


def check_stage(stage: str | None, names: list[str]) -> None:
    """Refuse ``fcit_*`` keys that the stage would ignore.

    Args:
        stage: The fcit stage, or None for a stage of LLaMA-Factory's own.
        names: The keys given.

    Raises:
        ValueError: One sentence that names the key and the stage it belongs to.
    """
    for name in names:
        if name in _ANYWHERE:
            continue
        wanted = _ONLY_IN.get(name, tuple(FCIT_STAGES))
        if stage not in wanted:
            where = " or ".join(f"`stage: {one}`" if one else "`llamafactory-cli export`" for one in wanted)
            raise ValueError(f"`{name}` belongs to {where}; take it out or change the stage.")
