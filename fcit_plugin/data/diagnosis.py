"""Why a dataset cannot be used: looked for once LLaMA-Factory has failed to read it, so that good data cost nothing."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

from datasets import Dataset
from datasets.exceptions import DatasetsError
from PIL import Image

from ..errors import FcitError, one_line, root_cause
from ..fcit_benchmark.records import IMAGE, BrokenFile, Defect, faults_of_test, faults_of_train, json_kind, read_records
from .catalogue import Catalogue
from .converter import image_path

#: What LLaMA-Factory, datasets, Arrow, Pillow and our converter raise over a malformed file, record or image.
_FAILURES = (
    *(DatasetsError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError),
    *(SyntaxError, Image.DecompressionBombError),
)


@contextlib.contextmanager
def diagnosed(name: str, catalogue: Catalogue, rows: Dataset | None = None) -> Iterator[None]:
    """Within the block a dataset is read or tokenized; if that fails, the file and record that it fails on are named.

    Args:
        name: The dataset.
        catalogue: Has it.
        rows: The records as LLaMA-Factory has read them, where the block tokenizes: their images are looked at.

    Raises:
        FcitError: What is wrong, in one sentence. An error that no file or record explains goes on as it is, for it
            may be a programmer's.
    """
    try:
        yield
    except _FAILURES as error:
        defect = _file_defect(name, catalogue) or (_image_defect(rows) if rows is not None else None)
        if defect is not None:
            raise FcitError(f"Dataset `{name}`: {defect}") from error
        if not isinstance(error, (DatasetsError, OSError, ValueError)) or name in str(error):
            raise
        reason = one_line(root_cause(error)).rstrip(".")
        raise FcitError(
            f"The dataset `{name}` cannot be used ({reason}); fix its file or its entry in dataset_info.json."
        ) from error


def _file_defect(name: str, catalogue: Catalogue) -> str | None:
    """What is wrong with the dataset's JSON file, or with the first record that something is wrong with."""
    entry = catalogue.entry(name)
    file = entry.get("file_name", "")
    if not file.endswith(".json"):
        return None
    try:
        records = read_records(catalogue.root(name), file)
    except BrokenFile as error:
        return str(error.defect("write it again"))
    if entry.get("formatting") != "fcit":
        return None
    folder = catalogue.media_root(name)
    for i, record in enumerate(records):
        for kind, problem in _faults(record, entry, folder):
            return str(Defect(kind, file, i, problem))
    return None


def _faults(record: Any, entry: dict[str, Any], folder: str | None) -> Iterable[tuple[str, str]]:
    """Kind and problem of what keeps a record from being read; columns may have names of the user's own."""
    columns = entry.get("columns", {})
    turns, image = columns.get("messages"), columns.get("images")
    if not isinstance(record, dict):
        yield from faults_of_train(record)
        return
    if turns:
        found = faults_of_train({**record, "conversations": record.get(turns)})
    else:
        named = {"text": record.get(columns.get("prompt")), "answer": record.get(columns.get("response"))}
        found = faults_of_test({**record, **named}, with_answer="fcit_references" not in entry)
    yield from (fault for fault in found if fault[0] not in ("no image", "no question_id"))
    given = record.get(image) if image else None
    if given is not None and not isinstance(given, str):
        yield "image", f"its `{image}` is a JSON {json_kind(given)} and not the path of one image"
    elif given:
        assert folder is not None  # LLaMA-Factory fills `media_dir` in
        try:
            image_path(folder, given)
        except ValueError as error:
            yield "image", str(error)
    elif IMAGE in str(record.get(turns or columns.get("prompt"))):
        yield "image tags", f"its text has the tag {IMAGE}, but it names no image"


def _image_defect(rows: Dataset) -> str | None:
    """The first image that cannot be decoded."""
    for i, images in enumerate(rows["_images"]):
        for path in images or []:
            try:
                with Image.open(path) as opened:
                    opened.load()
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                problem = "has no bytes" if not os.path.getsize(path) else f"cannot be read ({one_line(error)})"
                return f"the image {path} of record {i} {problem}; replace it or take the record out."
    return None
