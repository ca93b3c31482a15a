"""What the answers of test records are compared with where that is not their ``answer``: boxes and captions.

A box is four numbers x1, y1, x2, y2 from 0 to 1. The research code (``eval_grounding.py``) reads it from a text such as
``"[0.1, 0.2, 0.5, 0.9]"``; a list of numbers serves as well.

Captions are COCO annotations, found by image id. Which image id a record has depends on what the file offers, see
:class:`Captions`. The position in the file says nothing here, although the research code (``eval_caption.py``) counts
records from 1: ids of another split, order or subset would then give every record the captions of another image.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import FcitError
from .records import BrokenFile, Defect, read_json

Reference = list[str] | list[float]


def read_box(value: Any) -> list[float]:
    """A normalized box (x1, y1, x2, y2) from four numbers or a text with them.

    Raises:
        FcitError: It is none; the message goes on from "the record ..." and says why.
    """
    if value is None or value == "":
        raise FcitError("it has no box")
    if isinstance(value, str):
        value = value.strip().removeprefix("[").removesuffix("]").split(",")
    try:
        box = [float(edge) for edge in value]
    except (TypeError, ValueError):
        raise FcitError(f"its box {value!r} is not made of numbers") from None
    if len(box) != 4:
        raise FcitError(f"its box has {len(box)} numbers and not 4")
    if not all(0 <= edge <= 1 for edge in box):
        raise FcitError(f"its box {box} is not within 0 and 1")
    if box[0] >= box[2] or box[1] >= box[3]:
        raise FcitError(f"its box {box} has no area; the order is x1, y1, x2, y2")
    return box


class Captions:
    """COCO captions by image id.

    A record's image id is found by one rule for the whole file. Where the images have file names, its ``image`` is the
    ``file_name`` of one of them, folders included, or without them where that is unambiguous; nothing else is tried, for a
    file that counts questions from 0 and images from 1 would be off by one without anybody noticing. Only where the images
    have none, it is the rule by which the most records have captions, and of equals the first of these:

    1. its ``image_id``;
    2. its ``question_id``;
    3. the number that its image is called by, such as 36979 in ``36979.jpg`` or ``COCO_val2014_000000036979.jpg``.

    Args:
        content: The parsed file: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}.
        file: Its path, for messages.

    Raises:
        BrokenFile: It is no such file.
    """

    def __init__(self, content: Any, file: str) -> None:
        self.file = file
        self.defects: list[Defect] = []
        self._captions: dict[str, list[str]] = {}
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            raise BrokenFile("captions", file, "it holds no COCO `annotations`")
        images = content.get("images", [])
        if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
            raise BrokenFile("captions", file, "its COCO `images` are no list of objects")
        for i, image in enumerate(images):
            if not isinstance(image.get("file_name", ""), str):
                raise BrokenFile("captions", file, f"the `file_name` of image {i} in its COCO `images` is no text")
        for i, note in enumerate(content["annotations"]):
            self._add(i, note)
        self._ids_of_path: dict[str, set[str]] = {}
        self._ids_of_name: dict[str, set[str]] = {}
        for image in images:
            if image.get("file_name") and image.get("id") is not None:
                path = _path(image["file_name"])
                self._ids_of_path.setdefault(str(path), set()).add(str(image["id"]))
                self._ids_of_name.setdefault(path.name, set()).add(str(image["id"]))

    def _add(self, number: int, note: Any) -> None:
        if not isinstance(note, dict) or note.get("image_id") is None:
            problem = "the annotation has no `image_id`"
        elif not isinstance(note.get("caption"), str) or not note["caption"].strip():
            problem = "the annotation has no `caption`"
        else:
            self._captions.setdefault(str(note["image_id"]), []).append(note["caption"])
            return
        self.defects.append(Defect("captions", self.file, number, problem, "fix the annotation or take it out"))

    def match(self, records: Sequence[dict[str, Any]]) -> list[list[str] | None]:
        """The captions of each record; None for a record that has none."""
        rules = [self._by_file_name] if self._ids_of_path else [_by_image_id, _by_question_id, _by_number]
        found = [[self._captions.get(rule(record) or "") for record in records] for rule in rules]
        return max(found, key=lambda captions: sum(caption is not None for caption in captions))

    def _by_file_name(self, record: dict[str, Any]) -> str | None:
        path = _path(record.get("image"))
        ids = self._ids_of_path.get(str(path)) or self._ids_of_name.get(path.name) or set()
        return next(iter(ids)) if len(ids) == 1 else None


def _path(image: Any) -> PurePosixPath:
    """The path without a leading ``./`` and with slashes."""
    return PurePosixPath(str(image).replace("\\", "/"))


def _by_image_id(record: dict[str, Any]) -> str | None:
    return None if record.get("image_id") is None else str(record["image_id"])


def _by_question_id(record: dict[str, Any]) -> str | None:
    return None if record.get("question_id") is None else str(record["question_id"])


def _by_number(record: dict[str, Any]) -> str | None:
    digits = _path(record.get("image")).stem.rpartition("_")[2]
    return str(int(digits)) if digits.isdecimal() else None


def read_captions(root: Path, file: str) -> Captions:
    """The captions of a COCO file.

    Args:
        root: Folder that the path is relative to.
        file: Path of the file.

    Raises:
        BrokenFile: The file cannot be read.
    """
    return Captions(read_json(root, file), file)


def match_references(records: Sequence[Any], file: str, source: str, root: Path) -> tuple[list[Reference | None], list[Defect]]:
    """The reference of each test record, None for those that have none, and what is wrong.

    Args:
        records: The test records of one file; what is not a record is passed over.
        file: That file, for messages.
        source: ``fcit_references`` of the dataset's entry: a column of the records with a box or a list of texts, or a
            COCO caption file (``*.json``).
        root: Folder that a caption file is relative to.

    Raises:
        BrokenFile: The caption file cannot be read.
    """
    references: list[Reference | None] = [None] * len(records)
    defects: list[Defect] = []
    real = [i for i, record in enumerate(records) if isinstance(record, dict)]
    if source.endswith(".json"):
        captions = read_captions(root, source)
        defects += captions.defects
        for i, found in zip(real, captions.match([records[i] for i in real]), strict=True):
            references[i] = found
            if not found:
                image = records[i].get("image")
                defects.append(Defect("no reference", file, i, f"{source} has no caption of its image ({image})"))
        return references, defects
    for i in real:
        try:
            references[i] = _texts_or_box(records[i].get(source))
        except ValueError as error:
            defects.append(Defect("box", file, i, f"{error} (`{source}`)"))
    return references, defects


def _texts_or_box(value: Any) -> Reference:
    """A list of texts, such as several people's answers, stays what it is, even where they are numbers."""
    if value and isinstance(value, list) and all(isinstance(text, str) and text.strip() for text in value):
        return value
    return read_box(value)
