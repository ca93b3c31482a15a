"""Are the images that records name there, and can they be read?"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from ..files import opened
from .layout import IMAGES
from .records import Defect, Fault

_SLICE = 1024
#: Of others Pillow does more than decode: for an EPS it starts Ghostscript.
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


def images_of(records: Sequence[Any]) -> list[tuple[int, str]]:
    """Index and image of each record that names one."""
    named = ((i, record.get("image")) for i, record in enumerate(records) if isinstance(record, dict))
    return [(i, image) for i, image in named if isinstance(image, str) and image.strip()]


def check_images(
    root: Path,
    files: Mapping[str, Sequence[Any]],
    how: str,
    remedy: str,
    progress: Callable[[int], object] = lambda count: None,
    below: str = IMAGES,
) -> tuple[int, list[Defect]]:
    """Look at the images of records, each image once.

    Args:
        root: Root of the benchmark.
        files: The records by the file that they are from.
        how: ``all`` reads every image; ``first`` reads the first one of each file and looks that the others are there.
        remedy: What to do to get images.
        progress: Called with the number of images done since the last call.
        below: Folder below the root that images are in.

    Returns:
        How many different images are sound, and a defect for each record whose image is not: or one for all records
        whose images' folder is missing as a whole.
    """
    folder = root / below
    found: dict[str, Fault | None] = {}
    defects: list[Defect] = []
    with ThreadPoolExecutor() as pool:  # Pillow decodes without the interpreter's lock
        for file, records in files.items():
            named = images_of(records)
            new = list(dict.fromkeys(image for _, image in named if image not in found))
            for start in range(0, len(new), _SLICE):
                part = new[start : start + _SLICE]
                read = [how == "all" or start + i == 0 for i in range(len(part))]
                faults = pool.map(lambda image, read: image_fault(folder, image, read, below), part, read)
                found |= zip(part, faults, strict=True)
                progress(len(part))
            defects += _defects(root, below, file, [(i, image, fault) for i, image in named if (fault := found[image])], remedy)
    return sum(fault is None for fault in found.values()), defects


def image_fault(folder: Path, image: str, read: bool, name: str = IMAGES) -> Fault | None:
    """Kind and problem of what is wrong with an image, None if nothing is.

    Args:
        folder: The folder that the path is relative to.
        image: Its path.
        read: Decode it too, which finds images that are cut off.
        name: What messages call the folder.
    """
    path = folder / image
    if Path(image).is_absolute() or os.path.normpath(image).split(os.sep)[0] == os.pardir:
        return "image outside", f"its image {image} does not lie in {name}/"
    try:
        if not path.is_file():
            return "missing image", f"its image {name}/{image} is not there"
        if not path.stat().st_size:
            return "empty image", f"its image {name}/{image} has no bytes"
        if read:
            with opened(path) as file, Image.open(file, formats=_FORMATS) as picture:
                picture.verify()  # checksums, in formats that have them
            with opened(path) as file, Image.open(file, formats=_FORMATS) as picture:
                picture.draft("L", (1, 1))  # JPEG decodes at an eighth of the size, and yet every byte is read
                picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return "unreadable image", f"its image {name}/{image} cannot be read ({error})"
    return None


def _defects(root: Path, below: str, file: str, faults: Sequence[tuple[int, str, Fault]], remedy: str) -> list[Defect]:
    """The defects of one file, from the record, the image and the fault of each image that is not right."""
    defects = []
    missing: dict[str, int] = {}
    for i, image, (kind, problem) in faults:
        absent = _missing_folder(root / below, image) if kind == "missing image" else None
        if absent is None:
            defects.append(Defect(kind, file, i, problem, remedy))
        else:
            missing[absent] = missing.get(absent, 0) + 1
    for absent, count in missing.items():
        problem = f"the folder {below}/{absent} with the images of {count:,} records is not there"
        defects.append(Defect("missing images", file, None, problem, remedy))
    return defects


def _missing_folder(folder: Path, image: str) -> str | None:
    """The topmost folder that is missing on the way to an image, relative to ``folder``; None if its folder is there."""
    for parent in reversed(Path(image).parents[:-1]):
        if not (folder / parent).is_dir():
            return parent.as_posix()
    return None
