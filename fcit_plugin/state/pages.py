"""The page of a run, made of the files in its output folder."""

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import FcitError
from ..evaluation.page import PAGE_HTML, RunFiles, page
from ..evaluation.report import Report
from ..files import inside, read_lines_as, read_text, write_text
from .forms import LogLine
from .names import TYPED_YAML
from .predictions import read_predictions

#: LLaMA-Factory's name of a run's log.
LOG = "trainer_log.jsonl"


def run_files(path: str | os.PathLike[str]) -> RunFiles:
    """What a run has left that a page is made of.

    Args:
        path: Its output folder, or its report file, beside which the others lie.

    Raises:
        FcitError: A file is missing or damaged; the sentence names it.
    """
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    report = Report.read(path)
    log, typed = inside(folder, LOG), inside(folder, TYPED_YAML)
    lines = read_lines_as(LogLine, log) if os.path.lexists(log) else []
    text = read_text(typed) if os.path.lexists(typed) else ""
    return RunFiles(report, lines, read_predictions(folder), text)


def write_page(paths: Mapping[str, str | os.PathLike[str]], folder: str | os.PathLike[str]) -> Path:
    """Write the page of one run or of several.

    Args:
        paths: Their output folders or report files, by the name to call them.
        folder: Where it is written to.

    Returns:
        The page.

    Raises:
        FcitError: A file of a run is missing or damaged; the sentence names it.
    """
    target = Path(folder) / PAGE_HTML
    write_text(target, page({name: run_files(path) for name, path in paths.items()}))
    return target


def write_typed(folder: Path, typed: str | None) -> None:
    """Keep the recipe as it was typed in an output folder, in the place of an earlier one; also of the very file that it was.

    Args:
        folder: The output folder.
        typed: The recipe without its secrets; None where it was no file, and none is kept.
    """
    if typed is not None:
        write_text(folder / TYPED_YAML, typed)
    else:
        (folder / TYPED_YAML).unlink(missing_ok=True)


def write_own_page(folder: Path, typed: str | None, warn: Callable[[str], None]) -> None:
    """Write the page of a run into its output folder; where a file there is damaged, which ends no run, say so.

    Args:
        folder: The output folder, with the report in it.
        typed: The recipe as it was typed, without its secrets, which is kept beside it; None where it was no file.
        warn: Says it.
    """
    write_typed(folder, typed)
    try:
        write_page({folder.name: folder}, folder)
    except FcitError as error:
        warn(f"{folder / PAGE_HTML} is not written: {error} `fcit-cli report {shlex.quote(str(folder))} --html` makes it.")
