"""What is wrong with an image that a record names or holds, in words."""

import io
import os
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from PIL import Image

from ..errors import one_line
from ..fcit_benchmark.records import json_kind

#: Characters of a foreign message that are shown.
SHOWN = 300
#: What Pillow raises over bytes that are no image, or not all of one.
NO_IMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, AttributeError),
    *(NotImplementedError, struct.error, zlib.error, Image.DecompressionBombError),
)


def image_problem(image: Any) -> str | None:
    """What is wrong with an image as LLaMA-Factory takes it: the name of a file, bytes, or either in a dict."""
    inside = isinstance(image, Mapping) and image.get("bytes") is not None
    given = (image["bytes"] if inside else image.get("path")) if isinstance(image, Mapping) else image
    if isinstance(given, Image.Image):
        return None
    source: str | io.BytesIO
    if isinstance(given, str):
        if not given.strip():
            return "the name of an image of it is empty"
        what = f"its image {given[:SHOWN]!r}" if not given.isprintable() else f"its image {given[:SHOWN]}"
        if not is_file(given):
            return f"{what} does not exist (`media_dir` is the folder of images)"
        empty, source = os.path.getsize(given) == 0, given
    elif isinstance(given, bytes):
        what, empty, source = "an image of it, given as bytes,", not given, io.BytesIO(given)
    else:
        return f"an image of it is {'empty' if given is None else f'a {json_kind(given)}'} and neither a file nor bytes"
    try:
        with Image.open(source) as opened:
            opened.load()
    except NO_IMAGE as error:
        return f"{what} has no bytes" if empty else f"{what} cannot be read ({one_line(error)[:SHOWN]})"
    return None


def first_image_problem(row: Mapping[str, Any]) -> str | None:
    """The same of the images of a record in the standard form."""
    return next(filter(None, map(image_problem, row["_images"] or [])), None)


def missing_image(image: Any) -> str | None:
    """What is wrong with an image as far as can be seen without decoding it."""
    if isinstance(image, str):
        return None if is_file(image) else image_problem(image)
    return None if isinstance(image, Mapping | bytes | Image.Image) else image_problem(image)


def is_file(path: str) -> bool:
    """Whether there is a file; no name is too strange to ask for."""
    try:
        return os.path.isfile(path)
    except ValueError:  # a zero byte in it
        return False
