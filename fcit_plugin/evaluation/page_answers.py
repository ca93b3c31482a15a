"""Answers to the same test records after each stage, side by side, as much as fits on a page."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import escape

from .plots import short_name
from .rows import Prediction

#: Letters of a text that are shown, and bytes of the tags around an answer and around a record.
SHOWN, AROUND_ANSWER, AROUND_RECORD = 1200, 260, 420
_REPEATED = re.compile(r"(<[^<>\s]{1,40}>)\1{3,}")


@dataclass(frozen=True)
class Reply:
    """What was answered after a stage; `restricted` where the answer in the dataset's own labels is another one."""

    after: str
    subspace: str
    text: str
    restricted: str | None
    score: float | None

    @property
    def verdict(self) -> str:
        """The name of its color."""
        return "" if self.score is None else "right" if self.score >= 99.995 else "wrong" if self.score < 0.005 else "part"


@dataclass(frozen=True)
class Record:
    """A test record and all that was answered to it."""

    number: int
    prompt: str
    label: str
    replies: list[Reply]

    @property
    def changes(self) -> bool:
        """Whether trained models have answered it in more than one way."""
        return len({reply.text for reply in self.replies if reply.after != "untuned"}) > 1

    @property
    def ends_wrong(self) -> bool:
        """Whether the last answer has less than the full score."""
        return self.replies[-1].verdict in ("wrong", "part")

    @property
    def size(self) -> int:
        """About how many bytes of a page it takes."""
        texts = [self.prompt, self.label, *(text or "" for reply in self.replies for text in (reply.text, reply.restricted))]
        return (
            AROUND_RECORD
            + sum(len(escape(text).encode(errors="replace")) for text in texts)
            + AROUND_ANSWER * len(self.replies)
        )


@dataclass(frozen=True)
class Dataset:
    """The records of a dataset that are shown, and how many of how many that is."""

    name: str
    records: list[Record]
    kept: int


def answers(predictions: Mapping[int | None, Sequence[Prediction]], budget: int) -> list[Dataset]:
    """Return what is shown of a run's answers.

    Args:
        predictions: by stage, None for the untuned model.
        budget: bytes that it may take, the same share for each dataset.
    """
    found: dict[str, dict[int, list[tuple[int | None, Prediction]]]] = {}
    for stage, rows in predictions.items():
        for row in rows:
            found.setdefault(row["dataset"], {}).setdefault(row["record"], []).append((stage, row))
    shown = []
    for name, records in found.items():
        left, made = budget // len(found), []
        for number, answers in sorted(records.items()):
            record = _record(number, answers)
            left -= record.size
            if left < 0:
                break
            made.append(record)
        shown.append(Dataset(short_name(name), made, len(records)))
    return shown


def _record(number: int, rows: Sequence[tuple[int | None, Prediction]]) -> Record:
    in_labels = {stage: row["predict"] for stage, row in rows if row["restricted"]}
    replies = []
    for stage, row in rows:
        if not row["restricted"]:
            other = in_labels.get(stage)
            replies.append(
                Reply(
                    "untuned" if stage is None else f"stage {stage}",
                    _weighed(row),
                    brief(row["predict"]),
                    None if other is None or other == row["predict"] else brief(other),
                    row["score"],
                )
            )
    first = rows[0][1]
    return Record(number, brief(first["prompt"]), brief(first["label"]), replies or [Reply("", "", "", None, None)])


def _weighed(row: Prediction) -> str:
    if not row["weights"]:
        return "none"
    k = row["subspace"]
    if k is None or k >= len(row["weights"]):
        return "several" if any(row["weights"]) else "none"
    return f"{k} ({row['weights'][k]:.2f})"


def brief(text: str) -> str:
    """Return the first letters of a text; a mark that stands many times in a row, as an image's do, is shown once."""
    more = len(text)
    begin = _REPEATED.sub(lambda found: f"{found[1]} \u00d7 {len(found[0]) // len(found[1])}", text[: 40 * SHOWN])
    if more <= 40 * SHOWN and len(begin) <= SHOWN:
        return begin
    return f"{begin[:SHOWN]} \u2026 (of {more:,} letters)"
