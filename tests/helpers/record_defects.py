"""What can be wrong with one record, one file or one entry of a dataset, in a table."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_records import (
    BAD,
    CHATS,
    COLUMNS,
    LEFT,
    LISTS,
    PLAIN,
    QUESTION,
    SAID,
    TAKEN,
    TALKS,
    Defect,
    Written,
)


def _turns(written: Written) -> list[Any]:
    """The conversation of the bad record, in the words of its format; alpaca has none, nor has fcit's test form."""
    return written.records[BAD].get("conversations", [])


def _content(written: Written) -> str:
    return "content" if written.entry["formatting"] == "openai" else "value"


def _role(written: Written) -> str:
    return "role" if written.entry["formatting"] == "openai" else "from"


def _put(**fields: Any) -> Callable[[Written], Any]:
    def spoil(written: Written) -> None:
        written.records[BAD] |= fields

    return spoil


def _answer(value: Any) -> Callable[[Written], Any]:
    """Another value in the place of the answer, the better one of a pair."""

    def spoil(written: Written) -> None:
        record = written.records[BAD]
        if isinstance(record.get("chosen"), dict):
            record["chosen"] = {**record["chosen"], _content(written): value}
        elif "chosen" in record:
            record["chosen"] = value
        elif _turns(written):
            _turns(written)[-1][_content(written)] = value
        else:
            record["output" if "output" in record else "answer"] = value

    return spoil


def _question(value: Any) -> Callable[[Written], Any]:
    def spoil(written: Written) -> None:
        record = written.records[BAD]
        if _turns(written):
            _turns(written)[0][_content(written)] = value
        else:
            record["instruction" if "instruction" in record else "text"] = value

    return spoil


def _everywhere(change: Callable[[dict[str, Any]], Any]) -> Callable[[Written], Any]:
    def spoil(written: Written) -> None:
        for record in written.records:
            change(record)

    return spoil


def _without(key: str, everywhere: bool) -> Callable[[Written], Any]:
    def spoil(written: Written) -> None:
        column = written.entry["columns"].get(key)
        for i, record in enumerate(written.records):
            if everywhere or i == BAD:
                record.pop(column, None)

    return spoil


def _column(key: str, name: str | None) -> Callable[[Written], Any]:
    def spoil(written: Written) -> None:
        written.entry["columns"][key] = name

    return spoil


def _tags(*left: str) -> Callable[[Written], Any]:
    def spoil(written: Written) -> None:
        tags = {
            "role_tag": _role(written), "content_tag": _content(written),
            "user_tag": "user" if _role(written) == "role" else "human",
            "assistant_tag": "assistant" if _role(written) == "role" else "gpt",
        }  # fmt: skip
        written.entry["tags"] = {key: value for key, value in tags.items() if key not in left}

    return spoil


def _roles(*roles: str) -> Callable[[Written], Any]:
    """Other roles in the bad record's conversation; `user` and `assistant` stand for the format's own words."""

    def spoil(written: Written) -> None:
        own = {"user": "user", "assistant": "assistant"} if _role(written) == "role" else {"user": "human", "assistant": "gpt"}
        written.records[BAD]["conversations"] = [
            {_role(written): own.get(role, role), _content(written): "red"} for role in roles
        ]

    return spoil


def _by(role: str) -> Callable[[Written], Any]:
    """Another role of the better answer of a pair."""

    def spoil(written: Written) -> None:
        own = {"user": "user" if _role(written) == "role" else "human"}
        written.records[BAD]["chosen"] = {**written.records[BAD]["chosen"], _role(written): own.get(role, role)}

    return spoil


def _turn(value: Any) -> Callable[[Written], Any]:
    def spoil(written: Written) -> None:
        _turns(written)[-1] = value

    return spoil


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    def file(path: Path) -> None:
        inner = path / "part1.json" if path.is_dir() else path
        inner.write_bytes(change(inner.read_bytes()))

    return file


def _picture(content: bytes | None, missing: bool = False) -> Callable[[Written], Any]:
    def spoil(written: Written) -> None:
        path = written.media / f"image{BAD}.png"
        whole = path.read_bytes()
        path.unlink() if missing else path.write_bytes(whole[:50] if content is None else content)

    return spoil


def _inside(change: Callable[[bytes], bytes]) -> Callable[[Written], Any]:
    """Images as bytes within the records, the bad record's changed."""

    def spoil(written: Written) -> None:
        for i, record in enumerate(written.records):
            whole = (written.media / f"image{i}.png").read_bytes()
            record["image"] = [{"bytes": change(whole) if i == BAD else whole, "path": None}]

    return spoil


def _images(value: Any) -> Callable[[Written], Any]:
    def spoil(written: Written) -> None:
        written.records[BAD]["image"] = value

    return spoil


def _stray(name: str, content: bytes = b"x") -> Callable[[Path], Any]:
    return lambda path: (path / name).write_bytes(content)


def _folder(path: Path) -> None:
    (path / "more.json").mkdir()


def _empty(path: Path) -> None:
    for inner in [*path.iterdir()]:
        inner.unlink()


#: Uses in which a column has the answer.
ANSWERED = ("sft", "kto", "test")

DEFECTS = [
    Defect("nothing", end=TAKEN),
    Defect("nothing, with images", images=True, end=TAKEN),
    # conversations
    Defect("a conversation that ends with the human", _roles("user", "assistant", "user"), TALKS, ("sft", "kto"), end=LEFT),
    Defect("a pair whose conversation ends with the answer", _roles("user", "assistant"), CHATS, ("dpo",), end=LEFT),
    Defect("a test conversation that ends with the human", _roles("user"), CHATS, ("test",), end=LEFT),
    Defect("an unknown role", _roles("user", "robot"), TALKS, ("sft", "kto", "test")),
    Defect("an unknown role before a pair", _roles("robot"), CHATS, ("dpo",)),
    Defect("a conversation that the assistant begins", _roles("assistant", "user"), TALKS, ("sft", "kto", "test"), end=LEFT),
    Defect("an empty conversation", _put(conversations=[]), TALKS, end=LEFT),
    Defect("a conversation that is null", _put(conversations=None), TALKS, end=SAID),
    Defect("a conversation that is a text", _put(conversations="red"), TALKS, end=SAID),
    Defect("a conversation that is a number", _put(conversations=7), TALKS, end=SAID),
    Defect("a null turn", _turn(None), TALKS, end=SAID),
    Defect("a turn that is a text", _turn("red"), TALKS, end=SAID),
    Defect("a turn without content", _turn({}), TALKS),
    # texts
    Defect("an answer that is null", _answer(None)),
    Defect("an answer that is a number", _answer(5)),
    Defect("an answer that is blank", _answer("  ")),
    Defect("an answer that is a list", _answer(["red"])),
    Defect("a question that is null", _question(None)),
    Defect("a question that is a number", _question(5)),
    Defect("a question that is blank", _question(" ")),
    Defect(
        "answers that are all numbers",
        _everywhere(lambda r: r.update(output=5)),
        ("alpaca",),
        ("sft", "kto", "test"),
        record=False,
    ),
    Defect(
        "answers that are all dates",
        _everywhere(lambda r: r.update(output="2020-01-01")),
        ("alpaca",),
        ("sft", "test"),
        record=False,
    ),
    Defect("questions that are all numbers", _everywhere(lambda r: r.update(instruction=5)), ("alpaca",), record=False),
    Defect("a history that is no list of pairs", _put(history=[["a", "b", "c"]]), ("alpaca",)),
    Defect("a record of another kind", lambda w: w.records.__setitem__(BAD, "red"), containers=LISTS),
    Defect("a record that is null", lambda w: w.records.__setitem__(BAD, None), containers=LISTS),
    Defect("an empty record", lambda w: w.records[BAD].clear(), containers=LISTS),
    # columns and tags
    Defect("a missing answer", _without("response", False), ("alpaca", "fcit")),
    Defect("a missing conversation", _without("messages", False), TALKS),
    Defect("no answer anywhere", _without("response", True), ("alpaca",), record=False),
    Defect("no conversation anywhere", _without("messages", True), TALKS, record=False, end=SAID),
    Defect("no input anywhere", _without("query", True), ("alpaca",), record=False),
    Defect("another name for the answers", _column("response", "reply"), ("alpaca",), ANSWERED, record=False, end=SAID),
    Defect("another name for the conversations", _column("messages", "talks"), TALKS, record=False, end=SAID),
    Defect("columns without answers", _column("response", None), ("alpaca",), ANSWERED, record=False, end=SAID),
    Defect("columns without conversations", _column("messages", None), CHATS, record=False, end=SAID),
    Defect("partial tags: no roles", _tags("role_tag"), CHATS, record=False, end=SAID),
    Defect("partial tags: no contents", _tags("content_tag"), CHATS, record=False, end=SAID),
    Defect("partial tags: no user", _tags("user_tag"), CHATS, record=False, end=SAID),
    # pairs and feedback
    Defect("a pair of a wrong type", _put(chosen=5), PLAIN, ("dpo",)),
    Defect("a pair of lists", _put(chosen=["red"]), PLAIN, ("dpo",)),
    Defect("half a pair", _put(rejected=None), PLAIN, ("dpo",), end=LEFT),
    Defect("pairs without one side", _everywhere(lambda r: r.pop("rejected", None)), uses=("dpo",), record=False, end=SAID),
    Defect("a pair by the user", _by("user"), CHATS, ("dpo",), end=SAID),
    Defect("a pair by nobody", _by("robot"), CHATS, ("dpo",), end=SAID),
    Defect("a feedback that is a text", _put(wanted="yes"), uses=("kto",), containers=LISTS, end=SAID),
    Defect(
        "a feedback that is a text, in a table", _put(wanted="yes"), uses=("kto",), containers=("csv",), record=False, end=SAID
    ),
    Defect("a feedback that is null", _put(wanted=None), uses=("kto",), end=LEFT),
    Defect("feedback that is all text", _everywhere(lambda r: r.update(wanted="yes")), uses=("kto",), record=False, end=SAID),
    # images
    Defect("an image that is not there", _picture(b"", missing=True), images=True, end=SAID),
    Defect("an image of no bytes", _picture(b""), images=True, pixels=True, end=SAID),
    Defect("a truncated image", _picture(None), images=True, pixels=True, end=SAID),
    Defect("an image that is a text", _picture(b"I am none"), images=True, pixels=True, end=SAID),
    Defect("an image that is a number", _images(5), images=True, end=SAID),
    Defect("an image without a name", _images([""]), PLAIN, images=True, end=SAID),
    Defect("an image with a zero byte in its name", _images(["a\0b"]), PLAIN, images=True, end=SAID),
    Defect("an image tag without image", _images(None), images=True, formattings=PLAIN, end=SAID),
    Defect("two images for one tag", _images(["image0.png", "image1.png"]), PLAIN, images=True, end=SAID),
    Defect("two tags for one image", _question(f"<image><image> {QUESTION}"), images=True, end=SAID),
    Defect("image bytes", _inside(lambda b: b), PLAIN, containers=COLUMNS, images=True, end=TAKEN),
    Defect("truncated image bytes", _inside(lambda b: b[:50]), PLAIN, containers=COLUMNS, images=True, pixels=True, end=SAID),
    Defect("no image bytes", _inside(lambda b: b""), PLAIN, containers=COLUMNS, images=True, pixels=True, end=SAID),
    # files
    Defect(
        "a byte order mark",
        file=_bytes(lambda b: b"\xef\xbb\xbf" + b),
        containers=("json", "jsonl", "csv", "folder"),
        record=False,
    ),
    Defect(
        "a truncated file",
        file=_bytes(lambda b: b[:-20]),
        containers=("json", "jsonl", "parquet", "arrow", "folder"),
        record=False,
        end=SAID,
    ),
    Defect("an empty file", file=_bytes(lambda b: b""), record=False, end=SAID),
    Defect("a file of blanks", file=_bytes(lambda b: b" \n "), record=False, end=SAID),
    Defect("no record", file=_bytes(lambda b: b"[]"), containers=LISTS, record=False, end=SAID),
    Defect("a header alone", file=_bytes(lambda b: b.splitlines()[0]), containers=("csv",), record=False, end=SAID),
    Defect(
        "a row that is too long",
        file=_bytes(lambda b: b + b"a,b,c,d,e,f,g,h\r\n"),
        containers=("csv",),
        record=False,
        end=SAID,
    ),
    Defect(
        "bytes that are no text",
        file=_bytes(lambda b: b.replace(b"blue", b"\xff\xfe")),
        containers=("json", "jsonl", "csv", "folder"),
        record=False,
        end=SAID,
    ),
    Defect(
        "JSON lines in .json",
        file=_bytes(lambda b: "\n".join(map(json.dumps, json.loads(b))).encode()),
        containers=("json", "folder"),
        end=TAKEN,
    ),
    Defect("a list in .jsonl", file=_bytes(lambda b: b"[" + b.replace(b"\n", b",") + b"]"), containers=("jsonl",), end=TAKEN),
    Defect(
        "an object around the records",
        file=_bytes(lambda b: b'{"records": ' + b + b"}"),
        containers=("json",),
        record=False,
        end=SAID,
    ),
    Defect("brackets without end", file=_bytes(lambda b: b"[" * 5000), containers=LISTS, record=False, end=SAID),
    Defect("a stray file in the folder", file=_stray("README.md"), containers=("folder",), record=False, end=SAID),
    Defect("a hidden file in the folder", file=_stray(".DS_Store"), containers=("folder",), record=False, end=SAID),
    Defect("files of two kinds", file=_stray("more.csv"), containers=("folder",), record=False, end=SAID),
    Defect(
        "a folder in the folder", file=lambda path: (path / "more.json").mkdir(), containers=("folder",), record=False, end=SAID
    ),
    Defect("an empty folder", file=_empty, containers=("folder",), record=False, end=SAID),
]
