"""Write the twelve small datasets in the layout of the released benchmark."""

import hashlib
import json
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ...cache import cache_folder
from ...fcit_benchmark.layout import LAYOUT, DatasetLayout
from ...files import write_json
from ...folders import whole_folder
from ...locks import locked
from .drawing import CANVAS
from .tasks import TASKS, Sample

logger = logging.getLogger(__name__)

VERSION = 2
"""Raise by one whenever the same seed would give other data."""


def build_mini(root: Path, train: int = 600, test: int = 100, seed: int = 0) -> None:
    """Draw all datasets below ``root``; the folder appears only when it is complete.

    Args:
        root: Folder to write, new or empty.
        train: Train samples of each dataset.
        test: Test samples of each dataset.
        seed: Seed of everything drawn.
    """
    root = Path(root)
    with whole_folder(root) as partial:
        for layout in tqdm(LAYOUT.values(), desc="FCIT-mini", unit="dataset", leave=False, disable=None):
            _build_dataset(partial, layout, train, test, seed)
    logger.info("FCIT-mini: %d datasets of %d + %d samples in %s", len(LAYOUT), train, test, root)


def base_model_path() -> Path:
    """Folder of the pre-trained base model, which is part of the package."""
    return Path(__file__).parent / "base_model"


def mini_root(train: int = 600, test: int = 100, seed: int = 0) -> Path:
    """The cached datasets, built on first use.

    They live in :func:`fcit_plugin.cache.cache_folder`, in a folder named after their recipe.
    """
    cache = cache_folder()
    recipe = json.dumps([VERSION, train, test, seed]).encode()
    root = cache / f"mini-{hashlib.sha256(recipe).hexdigest()[:8]}"
    if not root.exists():
        with locked(Path(f"{root}.lock"), str(cache), "a second process"):
            if not root.exists():
                build_mini(root, train, test, seed)
    return root


def draw_samples(key: str, count: int, seed: int) -> list[Sample]:
    """Draw samples of a task, no two with the same image.

    Args:
        key: Key of the dataset.
        count: How many.
        seed: Seed; each task draws its own stream from it.
    """
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    samples: dict[bytes, Sample] = {}
    while len(samples) < count:
        sample = TASKS[key](rng)
        samples.setdefault(sample.scene.pixels.tobytes(), sample)
    return list(samples.values())


def _build_dataset(root: Path, layout: DatasetLayout, train: int, test: int, seed: int) -> None:
    write_dataset(root, layout, draw_samples(layout.key, train + test, seed), train)


def write_dataset(root: Path, layout: DatasetLayout, samples: Sequence[Sample], train: int) -> None:
    """Write a dataset with its images in its place.

    Args:
        root: Root of the benchmark.
        layout: The dataset, one with images.
        samples: Train samples, then test samples.
        train: How many are train samples.
    """
    stem = layout.key.removeprefix("fcit_")
    train_rows, test_rows, references = [], [], _Coco()
    for number, sample in enumerate(samples):
        is_train = number < train
        image = f"{layout.image_folder if is_train else layout.test_image_folder}/{stem}_{number:06d}.png"
        path = root / layout.images / image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.scene.pixels).save(path)
        if is_train:
            train_rows.append(_train_row(image, sample))
        else:
            test_rows.append(_test_row(number - train, image, sample))
            references.add(number - train, image, sample.references)
    write_json(root / layout.train_path, train_rows)
    write_json(root / layout.test_path, test_rows)
    if layout.captions_file:
        write_json(root / layout.references, references.content)


def _train_row(image: str, sample: Sample) -> dict[str, Any]:
    turns = (("human", f"<image>\n{sample.question}"), ("gpt", sample.answer))
    return {"image": image, "conversations": [{"from": who, "value": text} for who, text in turns]}


def _test_row(number: int, image: str, sample: Sample) -> dict[str, Any]:
    row: dict[str, Any] = {"question_id": number, "image": image, "text": sample.question, "answer": sample.answer}
    if sample.box is not None:
        row |= {"answer_bbox": list(sample.box), "size": [CANVAS, CANVAS]}
    return row


class _Coco:
    """Reference captions as COCO annotations; the image id is the question id."""

    def __init__(self) -> None:
        self.content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}

    def add(self, image_id: int, file_name: str, captions: tuple[str, ...]) -> None:
        self.content["images"].append({"id": image_id, "file_name": file_name})
        for caption in captions:
            annotations = self.content["annotations"]
            annotations.append({"id": len(annotations), "image_id": image_id, "caption": caption})
