"""``predictions/``: what a run has answered to the same test records after each stage, a line of JSON for each answer.

The names of prompt, predict and label are those of LLaMA-Factory's ``generated_predictions.jsonl``.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..evaluation.rows import Prediction
from ..files import inside, read_bytes, read_lines_as, write_bytes
from ..folders import take_away

FOLDER = "predictions"
#: What is written before the first stage: the answers of the untuned model.
UNTUNED = "untuned.jsonl"
#: Bytes of the largest file, and letters of the longest text in it.
MOST_BYTES, MOST_LETTERS = 2**24, 1_000_000
#: Bytes of all files of a run together: every commit holds those of the stages before it.
MOST_OF_RUN = 2**28
_STAGE = re.compile(r"stage-(\d{1,6})\.jsonl")


def write_predictions(output_dir: Path, stage: int | None, predictions: Sequence[Prediction], num_stages: int = 0) -> int:
    """Write what was answered after a stage in the place of what was there, so that nothing is doubled by a resume.

    Each dataset has the same share of :data:`MOST_BYTES`, or of what a file has of :data:`MOST_OF_RUN` in a run of many stages;
    records that do not fit in are left out as a whole.

    Args:
        output_dir: The run's output folder.
        stage: None for the untuned model.
        predictions: The answers, in the order of the lines.
        num_stages: How many files the run has beside that of the untuned model.

    Returns:
        How many were left out.
    """
    most = min(MOST_BYTES, MOST_OF_RUN // (num_stages + 1))
    share = most // max(len({row["dataset"] for row in predictions}), 1)
    left = {row["dataset"]: share for row in predictions}
    lines = []
    for row in predictions:
        line = f"{json.dumps(row, ensure_ascii=False)}\n".encode(errors="replace")
        if len(line) <= left[row["dataset"]] and max(map(len, (row["prompt"], row["predict"], row["label"]))) <= MOST_LETTERS:
            left[row["dataset"]] -= len(line)
            lines.append(line)
    write_bytes(output_dir / FOLDER / _name(stage), b"".join(lines))
    return len(predictions) - len(lines)


def read_predictions(output_dir: Path) -> dict[int | None, list[Prediction]]:
    """What a run has answered, by stage; None, the first if it is there, for the untuned model.

    Raises:
        FcitError: A file is damaged, too large or leads out of the folder; the sentence names it.
    """
    return {
        stage: read_lines_as(Prediction, inside(output_dir, f"{FOLDER}/{name}"), most=MOST_BYTES)
        for stage, name in _files(output_dir)
    }


def forget_predictions(output_dir: Path, stage: int) -> None:
    """Take away what was answered after a stage and later ones."""
    for number, name in _files(output_dir):
        if number is not None and number >= stage:
            (output_dir / FOLDER / name).unlink()


def take_predictions(output_dir: Path, earlier: Path, stage: int) -> None:
    """Take over what a run answered before a stage, of another folder that this run goes on from; what is there stays.

    Raises:
        FcitError: A file there is damaged; the sentence names it.
    """
    if earlier.resolve() == output_dir.resolve():
        return
    there = {number for number, _ in _files(output_dir)}
    for number, rows in read_predictions(earlier).items():
        if number not in there and (number is None or number < stage):
            write_predictions(output_dir, number, rows)


def commit_predictions(output_dir: Path, commit: Path, stage: int) -> None:
    """Put into a commit what was answered before a stage, so that it is complete wherever the commit is taken.

    Copies, for a file of two names would be changed in both by whoever opens it.

    Raises:
        FcitError: A file is too large or leads out of the folder; the sentence names it.
    """
    for number, name in _files(output_dir):
        if number is None or number < stage:
            write_bytes(commit / FOLDER / name, read_bytes(inside(output_dir, f"{FOLDER}/{name}"), most=MOST_BYTES))


def restore_predictions(output_dir: Path, commit: Path, stage: int) -> None:
    """Leave what a commit holds, whatever later answers there are; of one that holds none, what its run has left beside it.

    Args:
        output_dir: The output folder of the run that goes on.
        commit: What it goes on from.
        stage: The stage that comes next.

    Raises:
        FcitError: A file is damaged; the sentence names it.
    """
    if _files(commit):
        clear_predictions(output_dir)
        take_predictions(output_dir, commit, stage)
    else:  # nothing is kept, or it is one of a version that kept answers beside the commits alone
        forget_predictions(output_dir, stage)
        take_predictions(output_dir, commit.parent.parent, stage)


def clear_predictions(output_dir: Path) -> None:
    """Take all of it away; a folder of this name may be a user's, so what else is in it stays."""
    take_away(output_dir / FOLDER, rf"({re.escape(UNTUNED)}|{_STAGE.pattern})(\.partial)?")


def _name(stage: int | None) -> str:
    return UNTUNED if stage is None else f"stage-{stage}.jsonl"


def _files(output_dir: Path) -> Sequence[tuple[int | None, str]]:
    """Stages with the names of their files, in order."""
    folder = inside(output_dir, FOLDER)
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    stages = sorted((int(match[1]), name) for name in names if (match := _STAGE.fullmatch(name)))
    return [*((None, name) for name in names if name == UNTUNED), *stages]
