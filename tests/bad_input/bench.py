"""A good recipe on tiny models and data, and the cases that spoil it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiny
import wrapt
from forked import Ended, command


class Bench:
    """A good recipe with a copy of its data, for a case to spoil."""

    def __init__(self, folder: Path, model: Path, data: Path, finished: Path, text_model: Path) -> None:
        self.folder = folder
        self.model = model
        self.text_model = text_model
        self.data = Path(shutil.copytree(data, folder / "data"))
        self.finished = finished
        self.keys: dict[str, Any] = tiny.recipe(model, self.data, folder / "out", fcit_zero_shot=False)
        self.recipe = folder / "recipe.yaml"

    def write(self, name: str, content: Any) -> None:
        """Put text, bytes, or a value as JSON in the place of a data file."""
        if not isinstance(content, (str, bytes)):
            content = json.dumps(content)
        (self.data / name).write_bytes(content.encode() if isinstance(content, str) else content)

    def records(self, name: str = "color_train.json") -> list[dict]:
        """The records of a data file."""
        return json.loads((self.data / name).read_text())

    def spoil_record(self, number: int, name: str = "color_train.json", **changes: Any) -> None:
        """Change fields of one record; None takes a field out."""
        records = self.records(name)
        records[number] = {k: v for k, v in {**records[number], **changes}.items() if v is not None}
        self.write(name, records)

    def info(self, name: str, **changes: Any) -> None:
        """Change an entry of ``dataset_info.json``."""
        info = json.loads((self.data / "dataset_info.json").read_text())
        info[name] = {**info[name], **changes}
        self.write("dataset_info.json", info)

    def plain_keys(self, **keys: Any) -> dict[str, Any]:
        """Changes that make a recipe without fcit keys."""
        ours = {key: None for key in self.keys if key.startswith("fcit_")}
        return {**ours, "stage": "sft", "dataset": "color", **keys}

    def wider_model(self) -> Path:
        """A Llama like the bench's, but with wider layers."""
        return tiny.llama(self.folder / "wide", intermediate_size=128)

    def copy_of(self, source: Path, name: str) -> Path:
        """A copy of a folder, to spoil."""
        return Path(shutil.copytree(source, self.folder / name))


#: Printed by the command where it loads a model's weights.
LOADING = "loading weights file"


def _telling(load, instance, args, kwargs):
    print(LOADING, flush=True)
    return load(*args, **kwargs)


@dataclass(frozen=True)
class Case:
    """One kind of bad input.

    Attributes:
        title: What is wrong, in words.
        says: What the sentence must hold: the file, key or client, and what to do.
        changes: Keys of the recipe; None takes one out.
        spoil: Spoils the bench's files; may return further changes.
        extra: YAML at the recipe's end, as it is.
        images: On the tiny LLaVA with images, not on the tiny Llama.
        arguments: The command line.
        setup: Called in the child before the command, with the bench.
        env: Environment variables.
        loads: What is wrong shows when the base model is loaded or later; else it must be met before.
    """

    title: str
    says: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    spoil: Callable[[Bench], dict[str, Any] | None] = lambda bench: None
    extra: str = ""
    images: bool = False
    arguments: Callable[[Bench], list[str]] = lambda bench: ["train", str(bench.recipe)]
    setup: Callable[[Bench], Any] = lambda bench: None
    env: dict[str, str] = field(default_factory=dict)
    loads: bool = False

    def run(self, bench: Bench) -> Ended:
        """Spoil the bench, write its recipe and run the command."""
        keys = bench.keys | self.changes | (self.spoil(bench) or {})
        tiny.write_recipe(bench.recipe, {key: value for key, value in keys.items() if value is not None})
        with bench.recipe.open("a") as file:
            file.write(self.extra)

        def setup() -> None:
            wrapt.wrap_function_wrapper("transformers.modeling_utils", "PreTrainedModel._load_pretrained_model", _telling)
            self.setup(bench)

        return command(self.arguments(bench), bench.folder, self.env, setup)
