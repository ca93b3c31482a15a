"""What a run sets up, for more and more records: ``python benchmarks/scale.py``.

Seconds and memory of tokenizing the records of a dataset (and of hashing them), of dealing them out to 1,000 clients, of the
identity tokens of eight tasks by the embedding of a model of width 4,096, and of the dry run of the 7B's recipe, for n, 2 n and
4 n. Memory is what resident anonymous memory grows by at its peak. Ratios are per record, against n. Goal: linear growth.
"""

import ctypes
import gc
import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from measure import ROOT, arguments, resident, show

TASKS, WORDS = 8, 14


def measured(call: Callable[[], object]) -> tuple[float, int]:
    """Seconds of a call, and bytes by which memory grows at most meanwhile."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before is not taken for room
    before, done, highest = resident(), threading.Event(), 0

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.02):
            highest = max(highest, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        call()
    finally:
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    return seconds, max(highest, resident()) - before


def texts(count: int, seed: int = 0) -> Iterator[str]:
    """Instructions of some 36 tokens, each one a text of its own."""
    from fcit_plugin.knowledge.embedding import reference_instructions

    words = sorted({word for line in reference_instructions() for word in line.lower().split() if word.isalpha()})
    drawn = np.random.default_rng(seed).integers(len(words), size=(count, WORDS))
    return (" ".join(words[i] for i in row) + f" {number}" for number, row in enumerate(drawn))


def write_records(folder: Path, names: list[str], count: int, image: bool) -> None:
    """Datasets of ``count`` training records each, and a ``dataset_info.json``."""
    tag, extra = ("<image>\n", {"image": "one.png"}) if image else ("", {})
    columns = {"messages": "conversations", **({"images": "image"} if image else {})}
    folder.mkdir()
    for number, name in enumerate(names):
        turns = ([{"from": "human", "value": tag + text}, {"from": "gpt", "value": "yes"}] for text in texts(count, number))
        (folder / f"{name}.json").write_text(json.dumps([{"conversations": pair, **extra} for pair in turns]))
    info = {name: {"file_name": f"{name}.json", "formatting": "fcit", "columns": columns} for name in names}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def setup_of(recipe: Path, data: Path, stages: list[list[str]], **changes: Any):
    """The arguments of a recipe with other data, as LLaMA-Factory parses them."""
    from llamafactory.hparams import get_train_args

    keys = yaml.safe_load(recipe.read_text()) | {"fcit_setting": "custom", "fcit_stages": stages, "dataset_dir": str(data)}
    keys |= {"media_dir": str(data), "fcit_data_dir": None, "fcit_eval_every": "never", "overwrite_cache": True}
    return get_train_args({key: value for key, value in (keys | changes).items() if value is not None})


def tokenizing(folder: Path, count: int) -> Callable[[], object]:
    """Reading, converting, tokenizing and hashing one dataset."""
    from fcit_plugin.data.pipeline import Pipeline
    from fcit_plugin.engine.fingerprint import data_fingerprint
    from fcit_plugin.engine.open_session import load_tokenizer_module, pipeline_parts, read_setup

    write_records(folder / "data", ["big"], count, image=False)
    recipe = ROOT / "recipes" / "fcit_mini_disco.yaml"
    setup = read_setup(*setup_of(recipe, folder / "data", [["big"]], output_dir=str(folder / "out")))
    pipeline = Pipeline(*pipeline_parts(setup, load_tokenizer_module(setup)))
    return lambda: data_fingerprint(pipeline.train("big"))


class Counted:
    """A source of records that knows their number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def count(self, dataset: str) -> int:
        """Number of training records of a dataset."""
        return self.number


def dealing(folder: Path, count: int, clients: int) -> Callable[[], object]:
    """Dealing the records of eight tasks out."""
    from fcit_plugin.scenario.partition import Partition, PartitionOptions
    from fcit_plugin.scenario.settings import get_scenario

    scenario = get_scenario("custom", [[f"big{t}"] for t in range(TASKS)], None)
    options = PartitionOptions(clients, min_samples=min(5, count // TASKS // clients))
    partition = Partition(scenario, Counted(count // TASKS), options, seed=0)
    return lambda: [partition.parts(task) for task in range(TASKS)]


def identity_tokens(folder: Path, count: int, dimension: int, clients: int) -> Callable[[], object]:
    """The clients' mean tokens in one task after the other, as a run makes them."""
    from transformers import AutoTokenizer

    from fcit_plugin.knowledge.embedding import EmbeddingEncoder
    from fcit_plugin.knowledge.encoders import OncePerText
    from fcit_plugin.samples.mini.build import base_model_path

    tokenizer = AutoTokenizer.from_pretrained(base_model_path())
    torch.manual_seed(0)
    encoder = OncePerText(EmbeddingEncoder(torch.nn.Embedding(len(tokenizer), dimension), tokenizer, center=True))

    def encode() -> None:
        for task in range(TASKS):
            rows = encoder.encode(list(texts(count // TASKS, task)))
            means = [part.mean(axis=0, dtype=np.float64) for part in np.array_split(rows, clients) if len(part)]
            del rows, means

    return encode


def dry_run(folder: Path, count: int) -> Callable[[], object]:
    """The plan of the recipe for LLaVA-1.5-7B, whose weights are not there, on eight tasks."""
    import tiny
    from PIL import Image

    from fcit_plugin.engine.dry_run import make_plan
    from fcit_plugin.engine.open_dry_session import open_dry_session

    names = [f"big{task}" for task in range(TASKS)]
    write_records(folder / "data", names, count // TASKS, image=True)
    Image.new("RGB", (336, 336)).save(folder / "data" / "one.png")
    shapes = {"model_name_or_path": tiny.llava15_7b(folder / "model"), "fcit_identity_encoder": tiny.clip_l14(folder / "clip")}
    given = setup_of(
        ROOT / "recipes" / "fcit_llava15_7b_task.yaml", folder / "data", [[name] for name in names],
        **{key: str(path) for key, path in shapes.items()}, output_dir=str(folder / "out"), fcit_dry_run=True,
        deepspeed=str(ROOT / "recipes" / "deepspeed" / "ds_z2_config.json"),
        fcit_min_client_samples=min(5, count // TASKS // 50),
    )  # fmt: skip
    return lambda: make_plan(open_dry_session(*given))


def main() -> None:
    """Print a table."""
    args = arguments(__doc__, records=50_000, dimension=4096, clients=1_000)
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    base, dimension, clients = (800, 16, 10) if args.tiny else (args.records, args.dimension, args.clients)
    parts: dict[str, Callable[[Path, int], Callable[[], object]]] = {
        "tokenize and hash": tokenizing,
        f"deal out to {clients:,} clients": lambda folder, count: dealing(folder, count, clients),
        f"identity tokens, D = {dimension:,}": lambda folder, count: identity_tokens(folder, count, dimension, clients),
        "dry run of the 7B's recipe": dry_run,
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        import datasets

        datasets.disable_progress_bars()
        datasets.config.HF_DATASETS_CACHE = Path(folder) / "cache"
        for name, prepare in parts.items():
            first = None
            for number, times in enumerate((0, 1, 2, 4)):  # the first one warms up
                place = Path(folder) / f"{len(rows)}-{number}"
                place.mkdir()
                count = base * times or min(base, 800)
                seconds, memory = measured(prepare(place, count))
                if not times:
                    continue
                first = first or (seconds / count)
                rows.append((name, f"{count:,}", f"{seconds:.2f}", f"{memory / 1e6:.0f}", f"{seconds / count / first:.2f}"))
                print(*rows[-1], sep=", ", file=sys.stderr, flush=True)  # the whole takes a while
    show(("part", "records", "s", "MB", "s a record, ratio"), rows)


if __name__ == "__main__":
    main()
