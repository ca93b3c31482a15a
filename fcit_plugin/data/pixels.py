"""The images of records as the model is given them, made by LLaMA-Factory's own plugin of the template."""

from collections.abc import Sequence
from typing import Any

from ..errors import FcitError
from ..knowledge.images import Images


class PixelReader:
    """Makes of images what the model gets of them in training and in use.

    Args:
        template: LLaMA-Factory's template.
        processor: The base model's processor.
    """

    def __init__(self, template, processor) -> None:
        self.template = template
        self.processor = processor

    def __call__(self, images: Sequence[Any]) -> Images:
        """What the model is given of images: files, or images already read.

        Raises:
            FcitError: The template has no images.
        """
        plugin = self.template.mm_plugin
        found = plugin.get_mm_inputs([*images], [], [], [len(images)], [0], [0], [[]], self.processor)
        made = Images.of(found)
        assert made is not None
        return made


class LazyPixels(Sequence[Images | None]):
    """The images of records, read one record at a time: those of a task need not fit into memory.

    Args:
        images: For each record its images, None or an empty list without one.
        read: Makes of images what the model is given of them.
    """

    def __init__(self, images: Sequence[Sequence[Any] | None], read: PixelReader) -> None:
        self.images = images
        self.read = read

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, record: int) -> Images | None:  # type: ignore[override]  # nobody asks for a slice
        images = self.images[record]
        return self.read(images) if images else None


def refuse_without_image(name: str, images: Sequence[Sequence[Any] | None], source: str, kept: Sequence[int]) -> None:
    """Refuse training records whose identity token nothing could be made of.

    Args:
        name: The dataset.
        images: For each record its images.
        source: The ``fcit_identity_source`` that wants them.
        kept: The index of each record among all of the dataset.

    Raises:
        FcitError: The sentence names the dataset and the first record.
    """
    for record, given in zip(kept, images, strict=True):
        if not given:
            raise FcitError(
                f"`fcit_identity_source: {source}` needs an image in every training record, and record {record} of the dataset "
                f"{name} has none; set `fcit_identity_source: text`."
            )
