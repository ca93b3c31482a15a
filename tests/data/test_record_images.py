"""Images that stand in records are decoded when they are looked at, one record at a time, and not to be counted."""

import io

import datasets
import pytest
from datasets import Dataset, Features, List
from PIL import Image

from fcit_plugin.data.pipeline import Split, TaskData
from fcit_plugin.data.pixels import LazyPixels, refuse_without_image
from fcit_plugin.data.record_images import numbers_of_media
from fcit_plugin.errors import FcitError

#: Images of each record.
NUMBERS = [1, 0, 3, None, 2]


@pytest.fixture
def decoded(monkeypatch):
    """The widths of the images that are decoded."""
    found = set()
    decode = datasets.Image.decode_example

    def decode_and_tell(self, value, *args, **kwargs):
        image = decode(self, value, *args, **kwargs)
        found.add(image.size[0])
        return image

    monkeypatch.setattr(datasets.Image, "decode_example", decode_and_tell)
    return found


def png(width):
    """An image that is told by its width."""
    content = io.BytesIO()
    Image.new("RGB", (width, 2)).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def split_of(numbers, name="mine"):
    images = [None if n is None else [png(10 * i + k + 1) for k in range(n)] for i, n in enumerate(numbers)]
    rows = Dataset.from_dict({"_images": images}, features=Features({"_images": List(datasets.Image())}))
    return Split(name, rows, rows, [("q",)] * len(rows), ["a"] * len(rows), ["assistant"] * len(rows), range(len(rows)))


def widths(images):
    return [image.size[0] for image in images]


def test_counting_decodes_nothing(decoded):
    split = split_of(NUMBERS)
    data = TaskData((split, split_of([1])))
    assert [len(images) for images in data.images] == [1, 0, 3, 0, 2, 1] and any(data.images)
    assert [bool(images) for images in split.images] == [True, False, True, False, True]
    assert numbers_of_media(split.rows.select([4, 3, 2])) == [2, 0, 3]
    with pytest.raises(FcitError, match="record 1 of the dataset mine has none"):
        refuse_without_image("mine", split.images, "image", split.kept)
    assert decoded == set()


def test_a_record_is_decoded_by_itself_in_whatever_order(decoded):
    split = split_of(NUMBERS)
    chosen = [split.images[number] for number in (4, 1, 0)]
    pixels = LazyPixels(chosen, widths)
    assert decoded == set() and len(pixels) == 3
    assert pixels[0] == [41, 42] and decoded == {41, 42}
    assert pixels[1] is None and decoded == {41, 42}
    assert pixels[2] == [1] and decoded == {41, 42, 1}
    assert widths([split.images[2][1]]) == [22]


def test_files_are_named_as_they_stand():
    rows = Dataset.from_dict({"_images": [["a.png"], None, ["b.png", "c.png"]]})
    split = Split("mine", rows, rows, [("q",)] * 3, ["a"] * 3, ["assistant"] * 3, range(3))
    assert [list(images) for images in split.head(3).images] == [["a.png"], [], ["b.png", "c.png"]]


def test_texts_alone_have_none():
    rows = Dataset.from_dict({"_images": [None, None]})
    assert numbers_of_media(rows) == [0, 0]
