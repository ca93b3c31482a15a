"""Datasets of eight records in every format, and what can be wrong with one record, one file or one entry."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COUNT, BAD = 8, 3
"""How many records a dataset has, and which one is spoiled."""

FORMATTINGS = ("alpaca", "sharegpt", "openai", "fcit")
CONTAINERS = ("json", "jsonl", "csv", "parquet", "arrow", "folder")
#: What records are for: the local stage of training records, or test records.
USES = ("sft", "dpo", "kto", "test")
#: Datasets may be called anything.
NAMES = ("own", "a.b", "data", "hôpital/été 2", "x [1] *", "e", "`q`")

QUESTION = "name the color of this square please"
ANSWERS = ["red", "green", "blue", "grey"] * 2

Records = list[Any]


@dataclass(frozen=True)
class Written:
    """What a case writes: records, the entry in ``dataset_info.json``, and how its files end.

    Attributes:
        records: Of the dataset.
        entry: Without ``file_name``.
        use: See :data:`USES`.
        media: Folder of images.
    """

    records: Records
    entry: dict[str, Any]
    use: str
    media: Path


def good(formatting: str, use: str, media: Path, images: bool) -> Written:
    """Eight records with nothing wrong."""
    records = []
    for i, answer in enumerate(ANSWERS):
        tag = "<image>" if images and not (formatting == "fcit" and use == "test") else ""
        record: dict[str, Any] = {"site": f"s{i}"}
        text = f"{tag}{QUESTION}"
        if formatting == "alpaca":
            record |= {"instruction": text, "input": "", "output": answer}
        elif formatting == "fcit" and use == "test":
            record |= {"question_id": i, "text": text, "answer": answer}
        else:
            role, content = ("role", "content") if formatting == "openai" else ("from", "value")
            user, assistant = ("user", "assistant") if formatting == "openai" else ("human", "gpt")
            record["conversations"] = [{role: user, content: text}, {role: assistant, content: answer}]
        if use == "dpo":
            turn = record.pop("conversations", [None, None])[1]
            other = "red" if answer != "red" else "blue"
            record.pop("output", None)
            if turn is None:
                record |= {"chosen": answer, "rejected": other}
            else:
                content = "content" if formatting == "openai" else "value"
                record |= {"chosen": turn, "rejected": {**turn, content: other}}
                record["conversations"] = [{**turn, "role" if formatting == "openai" else "from": user, content: text}]
        if use == "kto":
            record["wanted"] = i % 2 == 0
        if images:
            path = f"image{i}.png"
            Image.new("RGB", (16, 16), (20 * i, 60, 200 - 20 * i)).save(media / path)
            record["image"] = path if formatting == "fcit" else [path]
        records.append(record)
    return Written(records, _entry(formatting, use, images), use, media)


def _entry(formatting: str, use: str, images: bool) -> dict[str, Any]:
    columns: dict[str, str] = {}
    if formatting == "alpaca":
        columns = {"prompt": "instruction", "query": "input"} | ({} if use == "dpo" else {"response": "output"})
    elif formatting == "fcit" and use == "test":
        columns = {"prompt": "text", "response": "answer"}
    else:
        columns = {"messages": "conversations"}
    entry: dict[str, Any] = {"formatting": formatting, "columns": columns}
    if formatting == "openai":
        entry["tags"] = {
            "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
            "observation_tag": "tool", "function_tag": "function", "system_tag": "system",
        }  # fmt: skip
    if use == "dpo":
        entry["ranking"] = True
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    if use == "kto":
        columns["kto_tag"] = "wanted"
    if images:
        columns["images"] = "image"
    return entry


def write(written: Written, container: str, folder: Path) -> dict[str, Any]:
    """Write the files of a dataset; returns its entry."""
    records, stem = written.records, "träin 1"
    if container == "folder":
        inside = folder / stem
        inside.mkdir()
        for number, part in enumerate((records[:5], records[5:])):
            (inside / f"part{number}.json").write_text(json.dumps(part))
        return {**written.entry, "file_name": stem}
    path = folder / f"{stem}.{container}"
    if container == "json":
        path.write_text(json.dumps(records))
    elif container == "jsonl":
        path.write_text("\n".join(map(json.dumps, records)))
    elif container == "csv":
        path.write_text(_csv(records), newline="")
    else:
        table = pa.Table.from_pylist(records)
        if container == "parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_stream(str(path), table.schema) as writer:
                writer.write_table(table)
    return {**written.entry, "file_name": path.name}


def _csv(records: Records) -> str:
    names = dict.fromkeys(key for record in records for key in record)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*names])
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


@dataclass(frozen=True)
class Defect:
    """One thing that can be wrong.

    Attributes:
        title: In words.
        spoil: Changes records and entry in place; may return what is to be written instead of them.
        formattings: Where it can be.
        uses: Where it can be.
        containers: Where it can be.
        images: The records have images.
        file: Changes the written file, or the folder, in place of the records.
        record: The sentence, if there is one, names record :data:`BAD`.
        pixels: It is seen when an image is decoded, which a dry run does for a sample alone.
    """

    title: str
    spoil: Callable[[Written], Any] = lambda written: None
    formattings: tuple[str, ...] = FORMATTINGS
    uses: tuple[str, ...] = USES
    containers: tuple[str, ...] = CONTAINERS
    images: bool = False
    file: Callable[[Path], Any] | None = None
    record: bool = True
    pixels: bool = False

    def fits(self, formatting: str, use: str, container: str) -> bool:
        """Whether a dataset can have it."""
        talks = formatting != "alpaca" and not (formatting == "fcit" and use == "test")
        if container == "csv" and (talks or self.images):  # a table has no lists
            return False
        if formatting == "fcit" and use in ("dpo", "kto"):  # it has no pairs and no feedback
            return False
        return formatting in self.formattings and use in self.uses and container in self.containers

    def make(self, formatting: str, use: str, container: str, folder: Path, media: Path) -> dict[str, Any] | None:
        """Write a dataset that has it; returns its entry, None where the container cannot hold such records."""
        written = good(formatting, use, media, self.images)
        self.spoil(written)
        try:
            entry = write(written, container, folder)
        except (pa.ArrowException, TypeError):
            return None  # one column has one type there
        if self.file is not None:
            self.file(folder / entry["file_name"])
        return entry


TALKS = ("sharegpt", "openai", "fcit")
TRAIN = ("sft", "dpo", "kto")
LISTS = ("json", "jsonl", "folder")


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


def _empty(path: Path) -> None:
    for inner in [*path.iterdir()]:
        inner.unlink()


DEFECTS = [
    Defect("nothing"),
    Defect("nothing, with images", images=True),
    # conversations
    Defect("a conversation that ends with the human", _roles("user", "assistant", "user"), TALKS, ("sft", "kto")),
    Defect("a pair whose conversation ends with the answer", _roles("user", "assistant"), ("sharegpt", "openai"), ("dpo",)),
    Defect("a test conversation that ends with the human", _roles("user"), ("sharegpt", "openai"), ("test",)),
    Defect("an unknown role", _roles("user", "robot"), TALKS, ("sft", "kto", "test")),
    Defect("an unknown role before a pair", _roles("robot"), ("sharegpt", "openai"), ("dpo",)),
    Defect("a conversation that the assistant begins", _roles("assistant", "user"), TALKS, ("sft", "kto", "test")),
    Defect("an empty conversation", _put(conversations=[]), TALKS),
    Defect("a conversation that is null", _put(conversations=None), TALKS),
    Defect("a conversation that is a text", _put(conversations="red"), TALKS),
    Defect("a conversation that is a number", _put(conversations=7), TALKS),
    Defect("a null turn", _turn(None), TALKS),
    Defect("a turn that is a text", _turn("red"), TALKS),
    Defect("a turn without content", _turn({}), TALKS),
    # texts
    Defect("an answer that is null", _answer(None)),
    Defect("an answer that is a number", _answer(5)),
    Defect("an answer that is blank", _answer("  ")),
    Defect("an answer that is a list", _answer(["red"])),
    Defect("a question that is null", _question(None)),
    Defect("a question that is a number", _question(5)),
    Defect("a question that is blank", _question(" ")),
    Defect("answers that are all numbers", _everywhere(lambda r: r.update(output=5)), ("alpaca",), ("sft", "kto", "test")),
    Defect("answers that are all dates", _everywhere(lambda r: r.update(output="2020-01-01")), ("alpaca",), ("sft", "test")),
    Defect("questions that are all numbers", _everywhere(lambda r: r.update(instruction=5)), ("alpaca",), record=False),
    Defect("a history that is no list of pairs", _put(history=[["a", "b", "c"]]), ("alpaca",)),
    Defect("a record of another kind", lambda w: w.records.__setitem__(BAD, "red"), containers=LISTS),
    Defect("a record that is null", lambda w: w.records.__setitem__(BAD, None), containers=LISTS),
    Defect("an empty record", lambda w: w.records[BAD].clear(), containers=LISTS),
    # columns and tags
    Defect("a missing answer", _without("response", False), ("alpaca", "fcit")),
    Defect("a missing conversation", _without("messages", False), TALKS),
    Defect("no answer anywhere", _without("response", True), ("alpaca",), record=False),
    Defect("no conversation anywhere", _without("messages", True), TALKS, record=False),
    Defect("no input anywhere", _without("query", True), ("alpaca",), record=False),
    Defect("another name for the answers", _column("response", "reply"), ("alpaca",), record=False),
    Defect("another name for the conversations", _column("messages", "talks"), TALKS, record=False),
    Defect("columns without answers", _column("response", None), ("alpaca",), record=False),
    Defect("columns without conversations", _column("messages", None), ("sharegpt", "openai"), record=False),
    Defect("partial tags: no roles", _tags("role_tag"), ("sharegpt", "openai"), record=False),
    Defect("partial tags: no contents", _tags("content_tag"), ("sharegpt", "openai"), record=False),
    Defect("partial tags: no user", _tags("user_tag"), ("sharegpt", "openai"), record=False),
    # pairs and feedback
    Defect("a pair of a wrong type", _put(chosen=5), ("alpaca", "sharegpt", "openai"), ("dpo",)),
    Defect("a pair of lists", _put(chosen=["red"]), ("alpaca", "sharegpt", "openai"), ("dpo",)),
    Defect("half a pair", _put(rejected=None), ("alpaca", "sharegpt", "openai"), ("dpo",)),
    Defect("pairs without one side", _everywhere(lambda r: r.pop("rejected", None)), uses=("dpo",), record=False),
    Defect("a pair by the user", _by("user"), ("sharegpt", "openai"), ("dpo",)),
    Defect("a pair by nobody", _by("robot"), ("sharegpt", "openai"), ("dpo",)),
    Defect("a feedback that is a text", _put(wanted="yes"), uses=("kto",)),
    Defect("a feedback that is null", _put(wanted=None), uses=("kto",)),
    Defect("feedback that is all text", _everywhere(lambda r: r.update(wanted="yes")), uses=("kto",), record=False),
    # images
    Defect("an image that is not there", _picture(b"", missing=True), images=True),
    Defect("an image of no bytes", _picture(b""), images=True, pixels=True),
    Defect("a truncated image", _picture(None), images=True, pixels=True),
    Defect("an image that is a text", _picture(b"I am none"), images=True, pixels=True),
    Defect("an image that is a number", _images(5), images=True),
    Defect("an image without a name", _images([""]), ("alpaca", "sharegpt", "openai"), images=True),
    Defect("an image with a zero byte in its name", _images(["a\0b"]), ("alpaca", "sharegpt", "openai"), images=True),
    Defect("an image tag without image", _images(None), images=True, formattings=("alpaca", "sharegpt", "openai")),
    Defect("two images for one tag", _images(["image0.png", "image1.png"]), ("alpaca", "sharegpt", "openai"), images=True),
    Defect("two tags for one image", _question(f"<image><image> {QUESTION}"), images=True),
    Defect("image bytes", _inside(lambda b: b), ("alpaca", "sharegpt", "openai"), containers=("parquet", "arrow"), images=True),
    Defect("truncated image bytes", _inside(lambda b: b[:50]), ("alpaca", "sharegpt", "openai"),
           containers=("parquet", "arrow"), images=True, pixels=True),
    Defect("no image bytes", _inside(lambda b: b""), ("alpaca", "sharegpt", "openai"),
           containers=("parquet", "arrow"), images=True, pixels=True),
    # files
    Defect("a byte order mark", file=_bytes(lambda b: b"\xef\xbb\xbf" + b), containers=("json", "jsonl", "csv", "folder"),
           record=False),
    Defect("a truncated file", file=_bytes(lambda b: b[:-20]), containers=("json", "jsonl", "parquet", "arrow", "folder"),
           record=False),
    Defect("an empty file", file=_bytes(lambda b: b""), record=False),
    Defect("a file of blanks", file=_bytes(lambda b: b" \n "), record=False),
    Defect("no record", file=_bytes(lambda b: b"[]"), containers=LISTS, record=False),
    Defect("a header alone", file=_bytes(lambda b: b.splitlines()[0]), containers=("csv",), record=False),
    Defect("a row that is too long", file=_bytes(lambda b: b + b"a,b,c,d,e,f,g,h,i,j\r\n"), containers=("csv",), record=False),
    Defect("bytes that are no text", file=_bytes(lambda b: b.replace(b"red", b"\xff\xfe")),
           containers=("json", "jsonl", "csv", "folder"), record=False),
    Defect("JSON lines in .json", file=_bytes(lambda b: "\n".join(map(json.dumps, json.loads(b))).encode()),
           containers=("json", "folder")),
    Defect("a list in .jsonl", file=_bytes(lambda b: b"[" + b.replace(b"\n", b",") + b"]"), containers=("jsonl",)),
    Defect("an object around the records", file=_bytes(lambda b: b'{"records": ' + b + b"}"), containers=("json",),
           record=False),
    Defect("brackets without end", file=_bytes(lambda b: b"[" * 5000), containers=LISTS, record=False),
    Defect("a stray file in the folder", file=_stray("README.md"), containers=("folder",), record=False),
    Defect("a hidden file in the folder", file=_stray(".DS_Store"), containers=("folder",), record=False),
    Defect("files of two kinds", file=_stray("more.csv"), containers=("folder",), record=False),
    Defect("a folder in the folder", file=lambda path: (path / "more.json").mkdir(), containers=("folder",), record=False),
    Defect("an empty folder", file=_empty, containers=("folder",), record=False),
]  # fmt: skip
