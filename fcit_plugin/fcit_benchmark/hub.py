"""Instructions and partitions from the Hugging Face dataset MLLM-CL/FCIT.

The hub has them in archives (``instruction/instruction_all.zip``), whose inner folders may change with an upload. A file is
therefore put where the folder names that the benchmark knows say, whatever folders are around them.
"""

import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from ..cache import cache_folder
from ..errors import FcitError
from ..files import opened, write_bytes
from ..locks import locked
from .layout import HUB_DATASET, INSTRUCTIONS, LAYOUT, PARTITION_FOLDERS, PARTITIONS

PARTS = {INSTRUCTIONS: "instruction*", PARTITIONS: "partition*"}
"""What can be fetched, and the pattern of its paths on the hub."""

URL = f"https://huggingface.co/datasets/{HUB_DATASET}"

_FOLDERS = {layout.folder for layout in LAYOUT.values()}
_PARTITION_TOPS = {"Task-related": "Task-related", "Capability-related": "Capability-related"}
_PARTITION_TOPS |= {"seq": PARTITION_FOLDERS["task"], "cap": PARTITION_FOLDERS["capability"]}

Opener = Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass
class DownloadResult:
    """What became of the files of the hub.

    Attributes:
        new: How many files were written, by part.
        kept: How many were there before and were left as they are, by part.
        unknown: Files that belong to no part.
    """

    new: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)

    def require(self, part: str) -> None:
        """Refuse a part of which there is nothing.

        Raises:
            FcitError: The hub had no file of it.
        """
        if not self.new[part] + self.kept[part]:
            seen = f"; it has {', '.join(self.unknown[:3])} ..." if self.unknown else ""
            raise FcitError(
                f"No {part} were found in the Hugging Face dataset {HUB_DATASET}{seen}. "
                f"Look at {URL} and put them into the folder {part} by hand."
            )


def place_of(path: str) -> str | None:
    """Where a file belongs below the root of the benchmark; None if nowhere.

    Args:
        path: Its path on the hub or in an archive, with slashes.
    """
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or "__MACOSX" in parts or parts[-1].startswith(".") or not path.endswith(".json"):
        return None
    for i, part in enumerate(parts[:-1]):
        if part in _PARTITION_TOPS:
            return "/".join((PARTITIONS, _PARTITION_TOPS[part], *parts[i + 1 :]))
    for i, part in enumerate(parts[:-1]):
        if part in _FOLDERS:
            return "/".join((INSTRUCTIONS, *parts[i:]))
    return None


def download(root: Path, parts: Sequence[str]) -> DownloadResult:
    """Fetch parts of the benchmark; files that are there already stay as they are.

    Args:
        root: Root of the benchmark, made if there is none.
        parts: Keys of :data:`PARTS`.

    Raises:
        FcitError: The hub cannot be reached and the files are not in its cache, or an archive is broken.
    """
    snapshot = _snapshot([PARTS[part] for part in parts])
    fetched = DownloadResult()
    root.mkdir(parents=True, exist_ok=True)
    held = locked(root / ".download.lock", str(root), "a second download")
    with held, tqdm(unit="file", desc=HUB_DATASET, leave=False, disable=None) as bar:
        for name, open_file in _files(snapshot):
            bar.update()
            place = place_of(name)
            if place is None:
                fetched.unknown.append(name)
                continue
            part = place.split("/")[0]
            if (root / place).exists():
                fetched.kept[part] += 1
                continue
            with open_file() as source:
                write_bytes(root / place, source.read())
            fetched.new[part] += 1
    return fetched


def hub_root(part: str) -> Path:
    """Root of the benchmark in the plugin's cache.

    Args:
        part: Key of :data:`PARTS`, fetched on first use.

    Raises:
        FcitError: It cannot be fetched.
    """
    root = cache_folder() / "FCIT"
    if not (root / part).is_dir():
        download(root, [part]).require(part)
    return root


def _snapshot(patterns: list[str]) -> Path:
    import httpx
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(HUB_DATASET, repo_type="dataset", allow_patterns=patterns))
    except (OSError, httpx.HTTPError) as error:
        raise FcitError(
            f"The Hugging Face dataset {HUB_DATASET} cannot be fetched ({type(error).__name__}): connect to the network "
            f"(and unset HF_HUB_OFFLINE), or put the files below the root of the benchmark by hand; they are at {URL}."
        ) from error


def _files(snapshot: Path) -> Iterator[tuple[str, Opener]]:
    """All files of a snapshot, those in archives included."""
    for path in sorted(snapshot.rglob("*")):
        name = path.relative_to(snapshot).as_posix()
        if path.suffix == ".zip":
            yield from _members(path, name)
        elif path.is_file():
            yield name, partial(opened, path)


def _members(path: Path, name: str) -> Iterator[tuple[str, Opener]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    yield f"{name}/{member.filename}", partial(archive.open, member)
    except zipfile.BadZipFile as error:
        raise FcitError(f"The archive {path} is broken ({error}); delete it and fetch it again.") from error
