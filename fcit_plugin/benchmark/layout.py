"""Folder and file names of the twelve data sets, as in the released FCIT benchmark."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetLayout:
    """Where one data set lives.

    Attributes:
        key: Name of the train entry in ``dataset_info.json``; the test entry is ``key + "_test"``.
        folder: Folder below ``instructions/``.
        train_file: Train file in that folder.
        test_file: Test file in that folder.
        image_folder: Folder of the train images below ``datasets/``.
        test_image_folder: Folder of the test images; the train folder unless given.
        metric: How answers are scored: ``exact_match``, ``caption`` or ``iou``.
        also: Further metrics, reported under their own names.
        extra_test_file: A further reference file of the test set, if there is one.
    """

    key: str
    folder: str
    train_file: str
    test_file: str
    image_folder: str
    test_image_folder: str = ""
    metric: str = "exact_match"
    extra_test_file: str = ""
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.test_image_folder:
            object.__setattr__(self, "test_image_folder", self.image_folder)

    @property
    def train_path(self) -> str:
        """Train file relative to the root of the benchmark."""
        return f"instructions/{self.folder}/{self.train_file}"

    @property
    def test_path(self) -> str:
        """Test file relative to the root of the benchmark."""
        return f"instructions/{self.folder}/{self.test_file}"


_ALL = (
    DatasetLayout("fcit_imagenet_r", "ImageNet-R", "train.json", "test.json", "ImageNet-R/train", "ImageNet-R/test"),
    DatasetLayout("fcit_arxivqa", "ArxivQA", "train_4w.json", "test_1w.json", "ArxivQA/images"),
    DatasetLayout("fcit_iconqa", "IconQA", "train.json", "val.json", "IconQA/iconqa_data/iconqa"),
    DatasetLayout(
        "fcit_clevr_math", "CLEVR-Math", "train_4w.json", "test_1w.json", "CLEVR/images/train", "CLEVR/images/test"
    ),
    DatasetLayout("fcit_ocrvqa", "OCRVQA", "train_10w.json", "test_1w.json", "OCR-VQA/images"),
    DatasetLayout(
        "fcit_flickr30k",
        "Flickr30k-cap",
        "train_brief_4w.json",
        "val_brief.json",
        "Flickr30k/train",
        "Flickr30k/val",
        metric="caption",
        extra_test_file="val_coco_type.json",
    ),
    DatasetLayout("fcit_figureqa", "FigureQA", "train.json", "test.json", "FigureQA/images", also=("substring",)),
    DatasetLayout("fcit_super_clevr", "super-CLEVR", "train.json", "test.json", "super-CLEVR/images"),
    DatasetLayout("fcit_aokvqa", "AOKVQA", "train.json", "val.json", "COCO2014/train2014", "COCO2014/val2014"),
    DatasetLayout(
        "fcit_grounding",
        "Grounding",
        "train_11w.json",
        "test_6000.json",
        "COCO2014/train2014",
        "COCO2014/val2014",
        metric="iou",
    ),
    DatasetLayout("fcit_dvqa", "DVQA", "train.json", "test.json", "DVQA/images", also=("substring",)),
    DatasetLayout("fcit_tabmwp", "TabMWP", "train.json", "test.json", "TabMWP/tables"),
)

LAYOUT: dict[str, DatasetLayout] = {layout.key: layout for layout in _ALL}
"""The twelve data sets by key, in the order task-related first, then the rest."""
