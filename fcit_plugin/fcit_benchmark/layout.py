"""Where the files of a benchmark lie; folder and file names of the released FCIT benchmark.

Source: the README of the research code (https://github.com/Ghy0501/FCIT, commit 9b10259). Other benchmarks: `others`.
"""

from dataclasses import dataclass
from typing import Any

HUB_DATASET = "MLLM-CL/FCIT"
"""The Hugging Face dataset with the instructions and the partitions."""

INSTRUCTIONS, PARTITIONS, IMAGES = "instructions", "partitioned_data", "datasets"
"""The three folders below the root."""

PARTITION_FOLDERS = {"task": "Task-related/seq", "capability": "Capability-related/cap"}
"""Folder of each kind of released partition below ``partitioned_data/``; then come beta, ``Task<number>`` and files."""

PARTITION_CLIENTS = 50
"""Clients of a released partition: ``client_0.json`` to ``client_49.json``."""

IMAGES_HOW = ("all", "first", "none")
"""How closely images are looked at: ``all`` are read; the ``first`` of each file is, the others must be there; ``none``."""


@dataclass(frozen=True)
class DatasetLayout:
    """Where one dataset lives.

    Attributes:
        key: Name of the train entry in ``dataset_info.json``; the test entry is ``key + "_test"``.
        folder: Folder below ``instructions``.
        train_file: Train file in that folder.
        test_file: Test file in that folder.
        image_folder: Folder of the train images below ``images``; empty for a dataset of text.
        images_from: Where the images are available.
        test_image_folder: Folder of the test images; the train folder unless given.
        metric: How answers are scored: ``exact_match``, ``caption`` or ``iou``.
        also: Further metrics, reported under their own names.
        captions_file: COCO annotations in that folder with the test captions, if that is where they are.
        box_column: Column of the test records that holds the box to find, if that is the answer.
        instructions: Folder of the instructions below the root; empty for the root itself.
        images: Folder below the root that the paths of images are relative to.
        some_without_image: Not every record has an image.
        records_from: Where the records are available, if not by ``fcit-cli data download``.
        written: Nobody offers these files: they are written from the records that are available there.
        columns: The two columns of a dataset of text: what is asked, and the answer.
    """

    key: str
    folder: str
    train_file: str
    test_file: str
    image_folder: str
    images_from: str
    test_image_folder: str = ""
    metric: str = "exact_match"
    also: tuple[str, ...] = ()
    captions_file: str = ""
    box_column: str = ""
    instructions: str = INSTRUCTIONS
    images: str = IMAGES
    some_without_image: bool = False
    records_from: str = ""
    written: bool = False
    columns: tuple[str, str] = ("prompt", "answer")

    def __post_init__(self) -> None:
        if not self.test_image_folder:
            object.__setattr__(self, "test_image_folder", self.image_folder)

    @property
    def is_text(self) -> bool:
        """Whether its records are text alone."""
        return not self.image_folder

    @property
    def how_to_get(self) -> str:
        """How to come by its files, where `records_from` tells: the end of a sentence."""
        if self.written:
            return f"write it from the records of {self.records_from}, as docs/guide/benchmarks.md says"
        return f"get it from {self.records_from}"

    @property
    def train_path(self) -> str:
        """Train file relative to the root of the benchmark."""
        return self._path(self.train_file)

    @property
    def test_path(self) -> str:
        """Test file relative to the root of the benchmark."""
        return self._path(self.test_file)

    @property
    def references(self) -> str:
        """What ``fcit_references`` of the test entry says: a caption file relative to the root, a column, or nothing."""
        return self._path(self.captions_file) if self.captions_file else self.box_column

    def _path(self, file: str) -> str:
        return "/".join(part for part in (self.instructions, self.folder, file) if part)

    def entries(self) -> dict[str, dict[str, Any]]:
        """Its two entries in ``dataset_info.json``."""
        scoring: dict[str, Any] = {"fcit_metric": self.metric} | ({"fcit_also": list(self.also)} if self.also else {})
        if self.is_text:
            form: dict[str, Any] = {"columns": dict(zip(("prompt", "response"), self.columns, strict=True)), **scoring}
            return {
                self.key: {"file_name": self.train_path, **form},
                f"{self.key}_test": {"file_name": self.test_path, **form},
            }
        if self.images != IMAGES:
            scoring["fcit_images"] = self.images
        train = {"messages": "conversations", "images": "image"}
        test = {"prompt": "text", "response": "answer", "images": "image"}
        references = {"fcit_references": self.references} if self.references else {}
        return {
            self.key: {"file_name": self.train_path, "formatting": "fcit", "columns": train, **scoring},
            f"{self.key}_test": {
                **{"file_name": self.test_path, "formatting": "fcit", "columns": test, **scoring},
                **references,
            },
        }


_HUB = f"https://huggingface.co/datasets/{HUB_DATASET}"
_UCIT = "https://huggingface.co/datasets/HaiyangGuo/UCIT/tree/main/UCIT"
_COCO = "http://images.cocodataset.org/zips/train2014.zip and http://images.cocodataset.org/zips/val2014.zip"

_ALL = (
    DatasetLayout(
        "fcit_imagenet_r",
        "ImageNet-R",
        "train.json",
        "test.json",
        "ImageNet-R/train",
        f"{_UCIT}/ImageNet-R",
        test_image_folder="ImageNet-R/test",
    ),
    DatasetLayout(
        "fcit_arxivqa",
        "ArxivQA",
        "train_4w.json",
        "test_1w.json",
        "ArxivQA/images",
        "https://huggingface.co/datasets/MMInstruction/ArxivQA",
    ),
    DatasetLayout("fcit_iconqa", "IconQA", "train.json", "val.json", "IconQA/iconqa_data/iconqa", "https://iconqa.github.io"),
    DatasetLayout(
        "fcit_clevr_math",
        "CLEVR-Math",
        "train_4w.json",
        "test_1w.json",
        "CLEVR/images/train",
        "https://huggingface.co/datasets/dali-does/clevr-math",
        test_image_folder="CLEVR/images/test",
    ),
    DatasetLayout(
        "fcit_ocrvqa",
        "OCRVQA",
        "train_10w.json",
        "test_1w.json",
        "OCR-VQA/images",
        "https://drive.google.com/drive/folders/1_GYPY5UkUy7HIcR0zq3ZCFgeZN7BAfm_ (OCR-VQA)",
    ),
    DatasetLayout(
        "fcit_flickr30k",
        "Flickr30k-cap",
        "train_brief_4w.json",
        "val_brief.json",
        "Flickr30k/train",
        f"{_UCIT}/Flickr30k",
        test_image_folder="Flickr30k/val",
        metric="caption",
        captions_file="val_coco_type.json",
    ),
    DatasetLayout(
        "fcit_figureqa",
        "FigureQA",
        "train.json",
        "test.json",
        "FigureQA/images",
        f"{_HUB}/tree/main/dataset",
        also=("substring",),
    ),
    DatasetLayout(
        "fcit_super_clevr",
        "super-CLEVR",
        "train.json",
        "test.json",
        "super-CLEVR/images",
        "https://github.com/Lizw14/Super-CLEVR",
    ),
    DatasetLayout(
        "fcit_aokvqa",
        "AOKVQA",
        "train.json",
        "val.json",
        "COCO2014/train2014",
        _COCO,
        test_image_folder="COCO2014/val2014",
    ),
    DatasetLayout(
        "fcit_grounding",
        "Grounding",
        "train_11w.json",
        "test_6000.json",
        "COCO2014/train2014",
        _COCO,
        test_image_folder="COCO2014/val2014",
        metric="iou",
        box_column="answer_bbox",
    ),
    DatasetLayout(
        "fcit_dvqa",
        "DVQA",
        "train.json",
        "test.json",
        "DVQA/images",
        f"{_HUB}/tree/main/dataset",
        also=("substring",),
    ),
    DatasetLayout(
        "fcit_tabmwp",
        "TabMWP",
        "train.json",
        "test.json",
        "TabMWP/tables",
        "https://github.com/lupantech/PromptPG (TabMWP)",
    ),
)

LAYOUT: dict[str, DatasetLayout] = {layout.key: layout for layout in _ALL}
"""The twelve datasets by key, in the order task-related first, then the rest."""
