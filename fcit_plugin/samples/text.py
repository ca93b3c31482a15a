"""A text-only companion of FCIT-mini: the base model's language model alone, and three small text tasks."""

import string
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import cache_folder
from ..folders import whole_folder
from ..locks import locked
from .mini.build import base_model_path
from .write import write_lists


def text_model_path() -> Path:
    """Folder of the text-only Llama: the language model of the base model, taken out on first use."""
    folder = cache_folder() / "mini-text-model"
    with locked(Path(f"{folder}.lock"), str(folder.parent), "a second process"):
        if not folder.exists():
            with whole_folder(folder) as partial:
                _take_out(partial)
    return folder


def _take_out(folder: Path) -> None:
    from transformers import AutoTokenizer, LlamaForCausalLM, LlavaForConditionalGeneration

    llava = LlavaForConditionalGeneration.from_pretrained(base_model_path())
    llama = LlamaForCausalLM(llava.config.text_config)
    llama.model.load_state_dict(llava.model.language_model.state_dict())
    llama.lm_head.load_state_dict(llava.lm_head.state_dict())
    AutoTokenizer.from_pretrained(base_model_path()).save_pretrained(folder)
    llama.save_pretrained(folder)


def write_text_tasks(out: Path, train: int = 400, test: int = 50, seed: int = 0) -> None:
    """Write three text tasks with a ``dataset_info.json``, as a user's own data would stand.

    ``text_last`` asks for the last of some letters, ``text_sum`` for a sum of two digits, ``text_order`` whether
    letters are in order. Each comes as pairs too (``text_last_pairs``: a right and a wrong answer, for DPO), and as feedback
    (``text_last_feedback``: one of them and whether it is right, for KTO), with the same test records.

    Args:
        out: Folder to write.
        train: Train records of each task.
        test: Test records of each task.
        seed: Seed of everything drawn.

    Raises:
        FcitError: Something of another one is there.
    """
    info, files = dict[str, dict[str, Any]](), dict[str, list[dict[str, Any]]]()
    for number, (name, task) in enumerate(TEXT_TASKS.items()):
        drawn = _distinct(task, train + test, np.random.default_rng([seed, 2 * number]))
        for entry_name, part in ((name, drawn[:train]), (f"{name}_test", drawn[train:])):
            files[entry_name] = [{"instruction": q, "input": "", "output": a} for q, a in part]
            info[entry_name] = {"file_name": f"{entry_name}.json"}
        for kind, (entry, records) in _preferences(drawn[:train], np.random.default_rng([seed, number, 1])).items():
            files[f"{name}_{kind}"] = records
            info[f"{name}_{kind}"] = {"file_name": f"{name}_{kind}.json", **entry}
            info[f"{name}_{kind}_test"] = {"file_name": f"{name}_test.json"}
    write_lists(Path(out), info, files)


def _preferences(
    drawn: list[tuple[str, str]], rng: np.random.Generator
) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The records as pairs and as feedback: what dataset_info.json says of them, and the records."""
    answers = sorted({answer for _, answer in drawn})
    wrong = [answers[(answers.index(a) + int(rng.integers(1, len(answers)))) % len(answers)] for _, a in drawn]
    right = rng.permutation(np.arange(len(drawn)) % 2 == 0).tolist()
    pairs = [{"instruction": q, "chosen": a, "rejected": b} for (q, a), b in zip(drawn, wrong, strict=True)]
    feedback = [
        {"instruction": q, "output": a if good else b, "right": good}
        for (q, a), b, good in zip(drawn, wrong, right, strict=True)
    ]
    prompt = {"prompt": "instruction"}
    return {
        "pairs": ({"ranking": True, "columns": {**prompt, "chosen": "chosen", "rejected": "rejected"}}, pairs),
        "feedback": ({"columns": {**prompt, "response": "output", "kto_tag": "right"}}, feedback),
    }


def distinct_records(task: str, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Questions and answers of one of :data:`TEXT_TASKS`, no question twice."""
    return _distinct(TEXT_TASKS[task], count, rng)


def _distinct(task, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    drawn: dict[str, str] = {}
    while len(drawn) < count:
        question, answer = task(rng)
        drawn.setdefault(question, answer)
    return list(drawn.items())


def _letters(rng: np.random.Generator, count: int) -> list[str]:
    return [string.ascii_uppercase[i] for i in rng.choice(26, size=count, replace=False)]


def _last(rng: np.random.Generator) -> tuple[str, str]:
    letters = _letters(rng, 4)
    return f"Read these letters: {' '.join(letters)}. Which one is the last?", letters[-1]


def _sum(rng: np.random.Generator) -> tuple[str, str]:
    noise = " ".join(_letters(rng, 2))  # the digits alone give too few different records
    left, right = rng.integers(0, 4, size=2)
    return f"Add up what {noise} pay: {left} and {right}.", str(left + right)


def _order(rng: np.random.Generator) -> tuple[str, str]:
    first, second = _letters(rng, 2)
    third = string.ascii_uppercase[int(rng.integers(26))]
    return f"Is {first} before {second} in the alphabet? Forget {third}.", "yes" if first < second else "no"


TEXT_TASKS = {"text_last": _last, "text_sum": _sum, "text_order": _order}
