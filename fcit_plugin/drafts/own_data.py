"""A user's own files of records: how they are written is found out, and becomes a ``dataset_info.json``."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.diagnosis import defect_of_file
from ..data.entries import COLUMN_NAMES
from ..data.file_names import refuse_pattern
from ..data.forms import USES, Form, Verdict, judge
from ..data.instructions import without_media
from ..data.named import TEST
from ..data.raw_records import FILE_KINDS, check_commas, kind_of, plain_records, read_raw
from ..errors import FcitError, nearest
from ..fcit_benchmark.records import MEND, Defect

#: Columns by what they are for, in the order in which they are looked for.
_QUESTIONS = (
    *("instruction", "prompt", "question", "query", "input", "inputs", "text", "problem", "dialogue", "document", "article"),
    *("sentence", "source"),
)
_ANSWERS = ("output", "response", "answer", "completion", "target", "targets", "solution", "highlights", "summary", "label")
#: Those that mean this only together: alone, `user` is who it was and `a` one of several choices.
_TOGETHER = (("q", "a"), ("user", "assistant"), ("human", "assistant"))
_MESSAGES = ("conversations", "messages", "conversation", "dialogue")
_IMAGES = ("images", "image")
_MEDIA = ("images", "videos", "audios")
#: Columns that may say whose a record is.
SITES = ("client", "client_id", "site", "site_id", "hospital", "owner", "institution")
#: Tags of turns that name a role.
_OPENAI = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system",
}  # fmt: skip
#: Those of turns that call tools, which LLaMA-Factory's converter `openai` alone reads.
_TOOLS = {"observation_tag": "tool", "function_tag": "function"}
#: More distinct answers than this part of the records are free text.
_FREE = 0.2
#: Of records of which it is not known yet how they are written.
_NO_FORM = Form("", False, {}, {})
#: Records by which it is told how they are written.
_LOOKED_AT = 100


class OwnFile:
    """A user's file, and how its records are written.

    Args:
        path: The file.
        columns: What the user says of its columns: ``prompt``, ``response`` and the like by their names.

    Raises:
        FcitError: It cannot be read, or its columns say nothing; the sentence names the file.
    """

    def __init__(self, path: Path, columns: Mapping[str, str] | None = None) -> None:
        if path.is_dir():
            raise FcitError(f"{path} (--data) is a folder; name its files, each of which becomes a task of its own.")
        if not path.is_file():
            raise FcitError(f"There is no file {path} (--data).")
        if kind_of(path) is None:
            raise FcitError(f"{path} (--data) is none of the kinds of files that are read: {', '.join(FILE_KINDS)}.")
        refuse_pattern(path, f"{path} (--data)")
        check_commas(path, f"{path} (--data)", (columns or {}).values())
        self.path = path
        try:
            rows = read_raw([path])
        except Exception as error:  # the package datasets raises whatever its readers do
            raise FcitError(str(defect_of_file(path, f"{path} (--data)", _NO_FORM, "sft", error))) from error
        self.count = len(rows)
        if not self.count:
            raise FcitError(f"{path} (--data) has no records.")
        self.columns: list[str] = list(rows.column_names)
        self._rows = rows
        self._some = list(plain_records(rows.select(range(min(self.count, _LOOKED_AT)))))
        self.entry: dict[str, Any] = self._entry_of(dict(columns or {}))
        self.left_out: dict[int, str] = {}
        #: The answers of the records that are not left out; of a pair the better one.
        self.answers = [self._answer(*each) for each in enumerate(self._verdicts()) if each[1].left_out is None]
        if not self.answers:
            problem = f"{self.left_out[0]}, and none of the {self.count} records can be used"
            numbers = "is a number and no text" in problem
            remedy = "write that column as texts (names, no numbers)" if numbers else "correct the file"
            raise self._defect(0, problem, f"{remedy}, or name other columns with --columns")

    @property
    def name(self) -> str:
        """What the dataset is called."""
        return re.sub(r"\W+", "_", self.path.stem).strip("_").lower() or "own"

    @property
    def has_media(self) -> bool:
        """Whether its records name files: images, videos or audios."""
        return not self.entry["columns"].keys().isdisjoint(_MEDIA)

    @property
    def local_stage(self) -> str:
        """What trains a client on it."""
        return "dpo" if self.entry.get("ranking") else "kto" if "kto_tag" in self.entry["columns"] else "sft"

    @property
    def unused(self) -> list[str]:
        """The columns that no part of its records is made of, but for those that may say whose a record is."""
        used = {*self.entry["columns"].values()}
        return [column for column in self.columns if column not in used and _name(column) not in SITES]

    @property
    def is_free_text(self) -> bool:
        """Whether its answers are text of one's own rather than labels."""
        return len(set(self.answers)) > max(_FREE * self.count, 10)

    def _verdicts(self) -> Iterator[Verdict]:
        """What LLaMA-Factory makes of each record; those that it leaves out are noted."""
        form, use = Form.of(self.entry), USES[self.local_stage]
        for number, record in enumerate(plain_records(self._rows)):
            verdict = judge(record, form, use)
            if verdict.broken is not None:
                raise self._defect(number, verdict.broken)
            if verdict.left_out is not None:
                self.left_out[number] = verdict.left_out
            yield verdict

    def _answer(self, number: int, verdict: Verdict) -> str:
        for what, text in (("instruction", without_media(verdict.asked or "")), ("answer", (verdict.answer or "").strip())):
            if not text:
                raise self._defect(number, f"it has no {what}")
        return verdict.answer or ""

    def _defect(self, number: int, problem: str, remedy: str = MEND) -> FcitError:
        return FcitError(str(Defect("record", f"{self.path} (--data)", number, problem, remedy)))

    def _entry_of(self, given: dict[str, str]) -> dict[str, Any]:
        for what, column in given.items():
            if what not in COLUMN_NAMES:
                raise FcitError(f"--columns {what}={column}: no column is for that; {nearest(what, COLUMN_NAMES)}")
            if column not in self.columns:
                raise FcitError(f"{self.path} has no column {column!r} (--columns); it has {', '.join(self.columns)}.")
        if "history" in given and not self._is_history(given["history"]):
            raise FcitError(
                f"The column {given['history']!r} of {self.path} (--columns history) holds no lists of pairs of an instruction "
                "and an answer, and is not read as anything else; take it out, or write it so."
            )
        entry: dict[str, Any] = {}
        columns = dict(given)
        named = [own for name in _MESSAGES if (own := self._first([name])) is not None]
        messages = given.get("messages") or next((name for name in named if self._turns(name)), None)
        if messages is not None and "prompt" not in given:
            turns = self._turns(messages)
            if not turns:
                raise FcitError(f"The column {messages!r} of {self.path} (--columns) holds no lists of turns.")
            entry["formatting"], columns["messages"] = "sharegpt", messages
            if any("role" in turn for turn in turns):
                entry["tags"] = _OPENAI
                if any(turn.get("tool_calls") or turn.get("role") == "tool" for turn in turns):
                    entry["formatting"], entry["tags"] = "openai", {**_OPENAI, **_TOOLS}
        else:
            columns = {**self._asked(), **columns}
            if (more := self._first(["input"])) is not None and columns["prompt"] == self._first(["instruction"]):
                columns.setdefault("query", more)
            history = self._first(["history"])
            if history is not None and self._is_history(history):  # LLaMA-Factory passes anything else over without a word
                columns.setdefault("history", history)
        pair = {what: given.get(what) or self._first([what]) for what in ("chosen", "rejected")}
        if None not in pair.values() and "response" not in given:
            entry["ranking"] = True
            columns.pop("response", None)
            columns |= {what: str(column) for what, column in pair.items()}
        elif "messages" not in columns and "response" not in columns:
            taken = set(columns.values())
            columns.setdefault("response", self._first(_ANSWERS, but=taken) or "")
        read: tuple[type, ...] = (str, list) if entry.get("formatting") == "openai" else (str,)
        for name in ("system", "tools"):
            if (own := self._first([name])) and any(isinstance(record.get(own), read) for record in self._some):
                columns.setdefault(name, own)
        if (images := self._first(_IMAGES)) is not None:
            columns.setdefault("images", images)
        if "" in columns.values():
            raise FcitError(
                f"{self.path} has the columns {', '.join(self.columns)}, none of which is known to hold the "
                f"{'question' if not columns.get('prompt') else 'answer'}; say so with --columns prompt=NAME response=NAME."
            )
        return {**entry, "columns": columns}

    def _asked(self) -> dict[str, str]:
        """The column of the question, and of the answer where one is known by the other."""
        if (question := self._first(_QUESTIONS)) is not None:
            return {"prompt": question}
        for names in _TOGETHER:
            question, answer = (self._first([name]) for name in names)
            if question is not None and answer is not None:
                return {"prompt": question, "response": answer}
        return {"prompt": ""}

    def _first(self, names: Iterable[str], but: Collection[str] = ()) -> str | None:
        """The column of the first of some names that there is, however it is capitalized; none of some columns."""
        return _first_named(names, [column for column in self.columns if column not in but])

    def _is_history(self, column: str) -> bool:
        """Whether a column has earlier turns: lists of pairs, or nothing in what was looked at."""
        lists = [value for record in self._some if (value := record.get(column)) is not None]
        return all(isinstance(value, list) for value in lists) and all(
            isinstance(pair, list) and len(pair) == 2 for value in lists for pair in value
        )

    def _turns(self, name: str) -> list[Mapping[str, Any]]:
        """The turns in a column of conversations; none if it is no such column."""
        lists = [record.get(name) for record in self._some]
        turns = [turn for row in lists if isinstance(row, list) for turn in row]
        return turns if all(isinstance(turn, dict) for turn in turns) else []


def site_column(columns: Sequence[str]) -> str | None:
    """The column that may say whose a record is; None without one."""
    return _first_named(SITES, columns)


def _first_named(names: Iterable[str], columns: Sequence[str]) -> str | None:
    """The column of the first name that there is: the one of just that name, or as spreadsheets write it."""
    alike = {_name(column): column for column in reversed(columns)}
    return next((name if name in columns else alike[name] for name in names if name in alike), None)


def _name(column: str) -> str:
    """What a reader takes a column's name for, without capitals and blanks at its end."""
    return column.strip().casefold()


def entries_of(files: Sequence[OwnFile], tests: Sequence[OwnFile], folder: Path) -> dict[str, dict[str, Any]]:
    """The ``dataset_info.json`` of a user's files.

    Args:
        files: Those that are trained on.
        tests: Their test records, one file for each; none where records are kept back.
        folder: Where it will be.

    Raises:
        FcitError: Two files have one name, or there are not as many tests as files.
    """
    if tests and len(tests) != len(files):
        raise FcitError(f"--test names {len(tests)} files and --data {len(files)}; give one for each, in the same order.")
    found: dict[str, dict[str, Any]] = {}
    for end, group in (("", files), (TEST, tests)):
        for of, file in zip(files, group, strict=False):
            name = of.name + end
            if name in found:
                raise FcitError(f"Two files of --data would be called {name}; rename one of them.")
            metric = {"fcit_metric": "rouge_l"} if of.is_free_text else {}
            found[name] = {"file_name": _relative(file.path, folder), **file.entry, **metric}
    return found


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.resolve(), folder.resolve())
