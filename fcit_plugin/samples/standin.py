"""Small stand-ins for benchmarks whose data are not at hand: drawn and written records in their layout.

They show that a recipe runs, and no more: a record has the form of the benchmark's, and asks for what FCIT-mini, or the small
text tasks, ask for. A sentence in front of the question tells the dataset's tasks apart.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..fcit_benchmark.benchmarks import OTHERS
from ..fcit_benchmark.layout import DatasetLayout
from ..files import read_json, write_json
from ..folders import whole_folder
from .mini.build import draw_samples, write_dataset
from .text import distinct_records

#: Dataset -> the task that its records are drawn or written like, and the sentence in front of its questions.
LIKE = {
    "ucit_imagenet_r": ("imagenet_r", ""),
    "ucit_arxivqa": ("arxivqa", ""),
    "ucit_vizwiz": ("flickr30k", "Someone who cannot see took this photo."),
    "ucit_iconqa": ("iconqa", ""),
    "ucit_clevr_math": ("clevr_math", ""),
    "ucit_flickr30k": ("flickr30k", ""),
    "trace_cstance": ("text_order", "This is about a stance."),
    "trace_fomc": ("text_last", "A central bank says so."),
    "trace_meetingbank": ("text_last", "A council met."),
    "trace_py150": ("text_last", "Go on with the code."),
    "trace_scienceqa": ("text_last", "This is a question of science."),
    "trace_numglue_cm": ("text_sum", "Use what you know of chemistry."),
    "trace_numglue_ds": ("text_sum", "Use what you know of numbers."),
    "trace_20minuten": ("text_last", "Make the news simple."),
    "coin_scienceqa": ("arxivqa", "This is a question of science."),
    "coin_textvqa": ("ocrvqa", "Read the sign."),
    "coin_imagenet": ("imagenet_r", ""),
    "coin_gqa": ("super_clevr", ""),
    "coin_vizwiz": ("aokvqa", "Someone who cannot see asks."),
    "coin_grounding": ("grounding", ""),
    "coin_vqav2": ("figureqa", ""),
    "coin_ocrvqa": ("ocrvqa", "Look at the cover of the book."),
    "mllm_dcl_rs": ("super_clevr", "This was seen from the sky."),
    "mllm_dcl_med": ("figureqa", "A doctor asks."),
    "mllm_dcl_ad": ("clevr_math", "You drive a car."),
    "mllm_dcl_sci": ("arxivqa", "This is from a book of science."),
    "mllm_dcl_fin": ("dvqa", "The chart shows prices."),
}


def write_standin(out: Path, benchmark: str, train: int = 60, test: int = 10, seed: int = 0) -> None:
    """Write a stand-in; the same arguments give the same files.

    Args:
        out: Folder to write, new or empty: the ``fcit_data_dir`` of a recipe.
        benchmark: A name of :data:`fcit_plugin.fcit_benchmark.benchmarks.OTHERS`.
        train: Train records of each dataset.
        test: Test records of each dataset.
        seed: Seed of everything drawn.
    """
    with whole_folder(Path(out)) as partial:
        for number, layout in enumerate(OTHERS[benchmark].datasets):
            like, sentence = LIKE[layout.key]
            if layout.is_text:
                rows = [
                    {"prompt": f"{sentence} {question}", "answer": answer}
                    for question, answer in distinct_records(like, train + test, np.random.default_rng([seed, number]))
                ]
                write_json(partial / layout.train_path, rows[:train])
                write_json(partial / layout.test_path, rows[train:])
            else:
                drawn = draw_samples(f"fcit_{like}", train + test, seed + number)
                samples = [replace(sample, question=f"{sentence} {sample.question}".strip()) for sample in drawn]
                write_dataset(partial, layout, samples, train)
            if layout.some_without_image:
                _drop_images(partial, layout)


def _drop_images(root: Path, layout: DatasetLayout) -> None:
    """Every third record loses its image."""
    for file in (layout.train_path, layout.test_path):
        rows: list[dict[str, Any]] = read_json(root / file)
        for row in rows[::3]:
            (root / layout.images / row.pop("image")).unlink()
            for turn in row.get("conversations", ()):
                turn["value"] = turn["value"].removeprefix("<image>\n")
        write_json(root / file, rows)
