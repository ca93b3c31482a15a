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


TALKS, CHATS = ("sharegpt", "openai", "fcit"), ("sharegpt", "openai")
PLAIN = ("alpaca", "sharegpt", "openai")
LISTS, COLUMNS = ("json", "jsonl", "folder"), ("parquet", "arrow")
TAKEN, LEFT, SAID = "taken", "left out", "sentence"


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
        end: "taken", "left out" (in fcit's own format a sentence) or "sentence"; None where formats differ.
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
    end: str | None = None

    def fits(self, formatting: str, use: str, container: str) -> bool:
        """Whether a dataset can have it."""
        talks = formatting != "alpaca" and not (formatting == "fcit" and use == "test")
        if container == "csv" and (talks or self.images):  # a table has no lists
            return False
        if formatting == "fcit" and use == "test" and self.formattings == TALKS:
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
