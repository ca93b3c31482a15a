"""Reads emoji in two styles from the npm packages ``emoji-datasource-google`` and ``-twitter`` or from a folder."""

import base64
import hashlib
import io
import tarfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...files import parse_json, read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

VERSION = "16.0.0"
URL = "https://registry.npmjs.org/{package}/-/{package}-{version}.tgz"
#: By style the checksum that npm publishes for the package.
CHECKSUMS = {
    "google": "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
    "twitter": "7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
}
ELSEWHERE = (
    "Give a folder that holds both packages, such as the node_modules after "
    f"'npm install emoji-datasource-google@{VERSION} emoji-datasource-twitter@{VERSION}', or 'none' to go without."
)

#: What the packages call a group of emoji, and the word to answer with.
GROUPS = {
    "Smileys & Emotion": "smileys",
    "People & Body": "people",
    "Animals & Nature": "nature",
    "Food & Drink": "food",
    "Travel & Places": "travel",
    "Activities": "activities",
    "Objects": "objects",
    "Symbols": "symbols",
    "Flags": "flags",
}


@dataclass(frozen=True)
class Emoji:
    """One emoji.

    Attributes:
        name: Its short name in the packages.
        group: One of the values of ``GROUPS``.
        file: Name of its images' file.
    """

    name: str
    group: str
    file: str


def read_emoji(where: str) -> tuple[list[Emoji], Callable[[Emoji, str], "Image"]]:
    """Returns all emoji, ordered by name, and a function that gives the image of one in a style, RGB on white, 64 pixels wide.

    Args:
        where: ``npm`` downloads both packages (136 MB), anything else is a folder that holds them.

    Raises:
        OSError: A package cannot be fetched, is not the published one, or the folder lacks a file.
    """
    read = {style: _downloaded(style) if where == "npm" else _unpacked(Path(where), style) for style in CHECKSUMS}
    rows = parse_json(read["google"]("emoji.json"))
    found = [Emoji(row["short_name"], GROUPS[row["category"]], row["image"]) for row in rows if row["category"] in GROUPS]

    def image(emoji: Emoji, style: str) -> "Image":
        return _on_white(read[style](f"img/{style}/64/{emoji.file}"))

    return sorted(found, key=lambda emoji: emoji.name), image


def _unpacked(folder: Path, style: str) -> Callable[[str], bytes]:
    """Reads files of a package that lies in a folder."""

    def read(path: str) -> bytes:
        file = folder / _package(style) / path
        if not file.is_file():
            raise OSError(f"{file} is missing. {ELSEWHERE}")
        return read_bytes(file)

    return read


def _downloaded(style: str) -> Callable[[str], bytes]:
    """Downloads a package, checks it, and keeps what is needed of it in memory; nothing is unpacked to disk."""
    package = _package(style)
    url = URL.format(package=package, version=VERSION)
    try:
        with urllib.request.urlopen(url) as response:
            archive = response.read()
    except OSError as error:
        raise OSError(f"The emoji come from {url}, which cannot be had: {error}. {ELSEWHERE}") from error
    if base64.b64encode(hashlib.sha512(archive).digest()).decode() != CHECKSUMS[style]:
        raise OSError(f"{url} is not the file that was published: its checksum differs. {ELSEWHERE}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        parts = {}
        for member in members:
            needed = member.name == "package/emoji.json" or member.name.startswith(f"package/img/{style}/64/")
            if needed and (file := members.extractfile(member)):  # which is nothing for a folder
                parts[member.name.removeprefix("package/")] = file.read()
    return parts.__getitem__


def _package(style: str) -> str:
    return f"emoji-datasource-{style}"


def _on_white(png: bytes) -> "Image":
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
