"""A recipe while it is put together: keys with a comment each, in the sections of the shipped recipes, and what was done."""

from dataclasses import dataclass, field
from typing import Any

import yaml

from ..arguments import FcitArguments
from ..arguments.joined import part_keys
from ..recipe.theirs import TABLE

#: The sections of a recipe, from top to bottom.
SECTIONS = ("model", "method", "federation", "dataset", "output", "train", "eval")

#: By the class that has a key: LLaMA-Factory's, or ours.
_OF_CLASS = {
    "ModelArguments": "model",
    "FinetuningArguments": "method",
    "MethodArguments": "method",
    "DataArguments": "dataset",
    "TrainingArguments": "train",
    "EngineArguments": "train",
    "GeneratingArguments": "eval",
    "EvaluationArguments": "eval",
    "RunArguments": "output",
}
#: Keys that stand elsewhere than the others of their class.
_OF_KEY = {
    **dict.fromkeys(("freeze_vision_tower", "freeze_multi_modal_projector", "freeze_language_model"), "model"),
    "do_train": "method",
    "fcit_clients_per_device": "federation",
    **dict.fromkeys(("fcit_data_dir", "fcit_strict_records", "fcit_verify_data", "dataloader_num_workers"), "dataset"),
    **dict.fromkeys(("output_dir", "overwrite_output_dir", "report_to", "run_name", "logging_dir", "logging_steps"), "output"),
    **dict.fromkeys(("fcit_projector_learning_rate", "disable_gradient_checkpointing"), "train"),
    **dict.fromkeys(("per_device_eval_batch_size", "val_size", "eval_dataset"), "eval"),
}
#: What is put first in its section.
_FIRST = (
    "model_name_or_path",
    "stage",
    "fcit_local_stage",
    "do_train",
    "finetuning_type",
    "fcit_setting",
    "dataset_dir",
    "template",
)


def section_of(key: str) -> str:
    """The section that a key stands in."""
    if key in _OF_KEY:
        return _OF_KEY[key]
    for name, rows in TABLE.items():
        if key in rows:
            return _OF_CLASS[name]
    part = part_keys().get(key)
    if part is not None:
        return "method" if part.kind == "methods" else "federation"
    owner = next((cls.__name__ for cls in FcitArguments.__mro__ if key in vars(cls).get("__annotations__", {})), "")
    return _OF_CLASS.get(owner, "federation")


@dataclass
class Draft:
    """A recipe that is being put together.

    Attributes:
        keys: Its keys and values.
        comments: What stands behind a key.
        unset: Keys at their default None, shown as a comment: by the key what it is for.
        said: What was done, a sentence each, for the user.
    """

    keys: dict[str, Any]
    comments: dict[str, str] = field(default_factory=dict)
    unset: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def put(self, key: str, value: Any, comment: str = "") -> None:
        """Set a key, with what stands behind it."""
        self.keys[key] = value
        if comment:
            self.comments[key] = comment

    def say(self, sentence: str) -> None:
        """Tell the user, once."""
        if sentence not in self.said:
            self.said.append(sentence)

    def text(self, first: str) -> str:
        """The recipe as YAML.

        Args:
            first: Its first comment: what it is.
        """
        parts = [f"# {first}"]
        for section in SECTIONS:
            keys = [key for key in self.keys if section_of(key) == section]
            keys.sort(key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))
            lines = [_line(key, self.keys[key], self.comments.get(key)) for key in keys]
            lines += [f"# {key}:  # {why}" for key, why in self.unset.items() if section_of(key) == section]
            if lines:
                parts.append("\n".join([f"### {section}", *lines]))
        return "\n\n".join(parts) + "\n"


def _line(key: str, value: Any, comment: str | None) -> str:
    written = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    line = f"{key}: {written.strip().removesuffix('...').strip()}"
    return f"{line}  # {comment}" if comment else line
