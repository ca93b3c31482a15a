"""Small stand-ins for benchmarks whose data are not at hand: drawn and written records in their layout.

They show that a recipe runs, and no more: a record has the form of the benchmark's, and asks for what FCIT-mini, or the small
text tasks, ask for. A sentence in front of the question tells the dataset's tasks apart.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..fcit_benchmark.benchmarks import OTHERS
from ..fcit_benchmark.fedllm import FEDLLM
from ..fcit_benchmark.fedllm import write as write_datasets
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
    "coin6_scienceqa": ("arxivqa", "This is a question of science."),
    "coin6_textvqa": ("ocrvqa", "Read the sign."),
    "coin6_imagenet": ("imagenet_r", ""),
    "coin6_gqa": ("super_clevr", ""),
    "coin6_vqav2": ("figureqa", ""),
    "coin6_ocrvqa": ("ocrvqa", "Look at the cover of the book."),
    "coin_long10_docvqa": ("ocrvqa", "Read the page."),
    "coin_long10_okvqa": ("aokvqa", "What you know of the world helps."),
    "coin_long10_chartqa": ("dvqa", "Read the chart."),
    "coin_long10_pathvqa": ("figureqa", "A doctor looks at tissue."),
    "coin_long10_aokvqa": ("aokvqa", ""),
    "coin_long10_infovqa": ("tabmwp", "Read the poster."),
    "coin_long10_iconqa": ("iconqa", ""),
    "coin_long10_vizwiz": ("aokvqa", "Someone who cannot see asks."),
    "coin_long10_clevr_math": ("clevr_math", ""),
    "coin_long10_ai2d": ("arxivqa", "Look at the diagram."),
    "mllm_dcl_rs": ("super_clevr", "This was seen from the sky."),
    "mllm_dcl_med": ("figureqa", "A doctor asks."),
    "mllm_dcl_ad": ("clevr_math", "You drive a car."),
    "mllm_dcl_sci": ("arxivqa", "This is from a book of science."),
    "mllm_dcl_fin": ("dvqa", "The chart shows prices."),
    "text15_yelp": ("text_last", "Someone went out to eat."),
    "text15_amazon": ("text_last", "Someone bought a thing."),
    "text15_mnli": ("text_order", "Of two sentences one may follow."),
    "text15_cb": ("text_order", "Someone may mean what is said."),
    "text15_copa": ("text_order", "One thing leads to another."),
    "text15_qqp": ("text_order", "Two people ask."),
    "text15_rte": ("text_order", "A text may imply this."),
    "text15_imdb": ("text_order", "Someone saw a film."),
    "text15_sst2": ("text_order", "A critic says so."),
    "text15_dbpedia": ("text_last", "An encyclopedia says so."),
    "text15_agnews": ("text_last", "This was in the news."),
    "text15_yahoo": ("text_last", "Someone asked this on the web."),
    "text15_multirc": ("text_order", "Read the passage."),
    "text15_boolqa": ("text_order", "Someone searched for this."),
    "text15_wic": ("text_order", "A word stands in two sentences."),
}

#: Dataset of FedLLM-Bench -> the same.
LIKE_CLIENTS = {
    "fedllm_aya": ("text_last", "Somebody asks in a language of theirs."),
    "fedllm_chatbot_it": ("text_sum", "A visitor asks."),
    "fedllm_wildchat": ("text_order", "A user asks."),
    "fedllm_wildchat_turns": ("text_order", "A user goes on to ask."),
    "fedllm_chatbot_pa": ("text_last", "A visitor likes one answer more."),
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
                    dict(zip(layout.columns, (f"{sentence} {question}", answer), strict=True))
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


def write_clients_standin(out: Path, each: int = 4, test: int = 10, seed: int = 0) -> None:
    """Write a stand-in for FedLLM-Bench as `fcit-cli data convert` leaves it; the same arguments give the same files.

    Args:
        out: Folder to write, new or empty: the ``dataset_dir`` of a recipe.
        each: Records of each client; there are as many clients as in the benchmark.
        test: Test records of a dataset that has some.
        seed: Seed of everything drawn.
    """
    with whole_folder(Path(out)) as partial:
        write_datasets(partial, (_of_clients(name, each, test, [seed, number]) for number, name in enumerate(FEDLLM)))


def _of_clients(name: str, each: int, test: int, seed: list[int]) -> tuple[str, dict[str, list[Any]], list[Any]]:
    """A dataset, the records of each client, and its questions, as FedLLM-Bench writes them."""
    dataset, (like, sentence) = FEDLLM[name], LIKE_CLIENTS[name]
    drawn = distinct_records(like, each * dataset.clients + test, np.random.default_rng(seed))
    answers = sorted({answer for _, answer in drawn})
    rows = []
    for question, answer in drawn:
        asked, other = f"{sentence} {question}", answers[answers.index(answer) - 1]
        human, gpt = {"from": "human", "value": asked}, {"from": "gpt", "value": answer}
        rows.append(
            {"instruction": asked, "response": answer, "reference": answer}
            | {"prompt": asked, "chosen": answer, "rejected": other, "conversations": [human, gpt] * 2}
        )
    clients = {str(client): rows[client * each : (client + 1) * each] for client in range(dataset.clients)}
    return name, clients, rows[-test:] if dataset.tests else []


def _drop_images(root: Path, layout: DatasetLayout) -> None:
    """Every third record loses its image."""
    for file in (layout.train_path, layout.test_path):
        rows: list[dict[str, Any]] = read_json(root / file)
        for row in rows[::3]:
            (root / layout.images / row.pop("image")).unlink()
            for turn in row.get("conversations", ()):
                turn["value"] = turn["value"].removeprefix("<image>\n")
        write_json(root / file, rows)
