"""Datasets for the situations that are hard to tell apart, or to serve, drawn like FCIT-mini (`recipes/compare/hard.yaml`).

=======================  ================================================================================
dataset                 what is hard
=======================  ================================================================================
``hard_digit``           the questions of CLEVR-Math with "Answer with a digit." behind them
``hard_letter``          the same with "Answer with a letter.": nearly the same words, other answers
``hard_english``         the questions of IconQA
``hard_german``          the same in German: other words, the same answers
``hard_many_<task>``     four tasks with enough records for 100 clients of 20 each
=======================  ================================================================================
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .mini.build import draw_samples
from .mini.tasks import Sample
from .write import Example, Split, check_place, write_all

#: The questions of IconQA, each with its translation.
GERMAN = {
    "How many icons are there? Choose a number word.": "Wie viele Symbole sind da? Nimm ein englisches Zahlwort.",
    "Count the icons and choose the number word.": "Zähle die Symbole und nenne das englische Zahlwort.",
    "Choose the number word that says how many icons there are.": (
        "Nenne das englische Zahlwort, das sagt, wie viele Symbole da sind."
    ),
}
MANY = ("clevr_math", "figureqa", "ocrvqa", "super_clevr")


def _with_digit(sample: Sample) -> Sample:
    return replace(sample, question=f"{sample.question} Answer with a digit.")


def _with_letter(sample: Sample) -> Sample:
    letter = "ABCDEFGHIJ"[int(sample.answer)]
    return replace(sample, question=f"{sample.question} Answer with a letter.", answer=letter)


def _in_german(sample: Sample) -> Sample:
    return replace(sample, question=GERMAN[sample.question])


#: Name of each pair's dataset: the task that it is drawn like, a seed of its own, what becomes of a sample.
PAIRS: dict[str, tuple[str, int, Callable[[Sample], Sample]]] = {
    "hard_digit": ("clevr_math", 1, _with_digit),
    "hard_letter": ("clevr_math", 2, _with_letter),
    "hard_english": ("iconqa", 1, lambda sample: sample),
    "hard_german": ("iconqa", 2, _in_german),
}


def write_hard_cases(out: Path, seed: int = 0, train: int = 600, test: int = 100, many: int = 2000) -> None:
    """Write the datasets with their `dataset_info.json`; the same arguments give the same files.

    Args:
        out: Folder to write, to be used as `dataset_dir`, with `media_dir` its folder `datasets`.
        seed: Seed of everything drawn.
        train: Train records of each of the first four.
        test: Test records of each dataset.
        many: Train records of each `hard_many_<task>`.

    Raises:
        FcitError: Something of another one is there.
    """
    wanted = {name: (task, train, seed + shift, change) for name, (task, shift, change) in PAIRS.items()}
    wanted |= {f"hard_many_{task}": (task, many, seed + 3, lambda sample: sample) for task in MANY}
    check_place(Path(out), wanted)
    splits: dict[str, Split] = {}
    shown = tqdm(wanted.items(), desc="Hard cases", unit="dataset", leave=False, disable=None)
    for name, (task, count, own_seed, change) in shown:
        samples = map(change, draw_samples(f"fcit_{task}", count + test, own_seed))
        examples = [_example(number, sample) for number, sample in enumerate(samples)]
        splits[name] = examples[:count], examples[count:]
    write_all(Path(out), splits)


def _example(number: int, sample: Sample) -> Example:
    return Example(str(number), Image.fromarray(sample.scene.pixels), sample.question, sample.answer)
