"""Bad data: ``dataset_info.json``, data files, records, images, and what of them cannot be distributed to clients."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from bench import Bench, Case

COLOR = "color_train.json"


def turns(*pairs: tuple[str, Any]) -> dict[str, Any]:
    """The conversation of a record."""
    return {"conversations": [{"from": role, "value": text} for role, text in pairs]}


def file(title: str, says: tuple[str, ...], content: Any) -> Case:
    """Other content in the place of a data file: text, bytes, or a value as JSON."""
    return Case(title, (COLOR, *says), spoil=lambda b: b.write(COLOR, content))


def record(title: str, *says: str, changes: dict[str, Any] | None = None, images: bool = False, **fields: Any) -> Case:
    """Other fields in record 3 of a training file."""
    spoil = lambda b: b.spoil_record(3, **fields)  # noqa: E731
    return Case(title, ("`color`", COLOR, "record 3", *says), changes or {}, spoil, images=images)


def record_of_test(title: str, *says: str, **fields: Any) -> Case:
    """Other fields in record 2 of a test file."""
    return Case(title, ("color_test", "ecord 2", *says), spoil=lambda b: b.spoil_record(2, "color_test.json", **fields))


def image(title: str, *says: str, content: bytes) -> Case:
    """Other bytes in the file of an image."""
    says = ("`color", "datasets/red.png", "record ", *says)
    return Case(title, says, spoil=lambda b: b.write("datasets/red.png", content), images=True)


def clients(*names: str) -> Any:
    """Names a client in each record of the first task, in turn, and leaves the second task to the first one."""

    def spoil(b: Bench) -> dict[str, Any]:
        for task, owners in (("color", names), ("letter", names[:1])):
            records = b.records(f"{task}_train.json")
            b.write(f"{task}_train.json", [{**r, "site": owners[i % len(owners)]} for i, r in enumerate(records)])
        return {"fcit_partition": "natural", "fcit_partition_column": "site"}

    return spoil


PNG = b"\x89PNG\r\n\x1a\n"

INFO = [
    Case(
        "no dataset_info.json",
        ("`color`", "dataset_info.json", "`dataset_dir`"),
        spoil=lambda b: (b.data / "dataset_info.json").unlink(),
    ),
    Case("a data folder that is not there", ("/no/such", "`dataset_dir`"), {"dataset_dir": "/no/such"}),
    Case(
        "a broken dataset_info.json",
        ("dataset_info.json", "fix"),
        spoil=lambda b: b.write("dataset_info.json", '{"color": '),
    ),
    Case(
        "a dataset_info.json that is a list",
        ("dataset_info.json", "object"),
        spoil=lambda b: b.write("dataset_info.json", ["color"]),
    ),
    Case(
        "an entry without file",
        ("color", "`file_name`"),
        spoil=lambda b: b.write("dataset_info.json", {"color": {}, "letter": {}}),
    ),
    Case(
        "an unknown formatting",
        ("color", "`formatting`", "did you mean `fcit`"),
        spoil=lambda b: b.info("color", formatting="fict"),
    ),
    Case(
        "an unknown metric",
        ("`color`", "'exact_mach'", "exact_match"),
        spoil=lambda b: b.info("color", fcit_metric="exact_mach"),
    ),
    Case(
        "a benchmark folder that is not there",
        ("/no/such", "`fcit_data_dir`"),
        {"fcit_data_dir": "/no/such", "fcit_setting": "task_hom", "fcit_stages": None},
    ),
]

FILES = [
    Case("a data file that is not there", ("color", COLOR, "`file_name`"), spoil=lambda b: (b.data / COLOR).unlink()),
    Case(
        "a test file that is not there",
        ("color_test", "color_test.json", "`file_name`"),
        spoil=lambda b: (b.data / "color_test.json").unlink(),
    ),
    Case(
        "a truncated data file",
        ("`color`", COLOR, "cut off at line 1"),
        spoil=lambda b: b.write(COLOR, json.dumps(b.records())[:500]),
    ),
    file("an empty data file", ("empty",), ""),
    file("a dataset without records", ("no records",), []),
    file("a data file that is not UTF-8", ("UTF-8", "byte 8"), '[{"a": "\xe4"}]'.encode("latin-1")),
    file("a data file that is not a list", ("object", "list of records"), {"records": []}),
    file("records that are texts", ("record 0", "text"), ["a", "b"]),
]

RECORDS = [
    record("a record without conversations", "`conversations`", conversations=None),
    record("a record without a turn of gpt", "human, gpt", **turns(("human", "color"))),
    record("a conversation that gpt begins", "gpt, human", **turns(("gpt", "red"), ("human", "color"))),
    record("unknown roles", "user, assistant", **turns(("user", "color"), ("assistant", "red"))),
    record(
        "unknown roles, read by two processes",
        "user, assistant",
        changes={"preprocessing_num_workers": 2},
        **turns(("user", "color"), ("assistant", "red")),
    ),
    record("a number in the place of a text", "turn 0 (human)", "number", **turns(("human", 5), ("gpt", "red"))),
    Case(
        "a record without answer",
        ("`color`", COLOR, "record 3", "no answer"),
        spoil=lambda b: b.spoil_record(3, **turns(("human", "color"), ("gpt", " "))),
    ),
    Case(
        "a record without instruction",
        ("`color`", COLOR, "record 3", "no instruction"),
        spoil=lambda b: b.spoil_record(3, **turns(("human", ""), ("gpt", "red"))),
    ),
    record_of_test("a test record without answer", "no answer", answer=None),
    record_of_test("a test record without text", "`text`", text=None),
]

IMAGES = [
    record("an image that is not there", "nope.png", "`media_dir`", images=True, image="nope.png"),
    Case("an image folder that is not there", ("/no/such", "`media_dir`"), {"media_dir": "/no/such"}, images=True),
    Case(
        "a truncated image",
        ("`color", "datasets/red.png", "truncated"),
        spoil=lambda b: b.write("datasets/red.png", (b.data / "datasets" / "red.png").read_bytes()[:50]),
        images=True,
    ),
    image("an image of no bytes", "no bytes", content=b""),
    image("an image that is a text", "cannot be read", content=b"I am no image"),
    image("an image with a head and nothing else", "cannot be read", content=PNG),
    record("an image outside of the data folder", "../../etc/passwd", images=True, image="../../etc/passwd"),
    record("an image by an absolute path", "/etc/passwd", "outside", images=True, image="/etc/passwd"),
    record("two images where one is given", "`image`", "list", images=True, image=["red.png", "blue.png"]),
    record("two image tags for one image", "2 tags", images=True, **turns(("human", "<image><image> a"), ("gpt", "b"))),
    record("an image tag without image", "tag", "names no image", images=True, image=None),
    Case(
        "images for a text model",
        ("`color", "template"),
        spoil=lambda b: {"model_name_or_path": str(b.text_model), "template": "vicuna"},
        images=True,
    ),
    Case("a cutoff within an image", ("`cutoff_len: 6`", "record 0", "4 tokens"), {"cutoff_len": 6}, images=True),
]


def talks(name: str, ending: str, spoil: Callable[[list[dict]], Any] = lambda records: None) -> Callable[[Bench], Any]:
    """The color task's records as sharegpt's, under another name of the dataset, in a file of another kind."""

    def change(b: Bench) -> dict[str, Any]:
        info = json.loads((b.data / "dataset_info.json").read_text())
        records = b.records()
        spoil(records)
        file = f"the talks.{ending}"
        if ending == "parquet":
            pq.write_table(pa.Table.from_pylist(records), b.data / file)
        else:
            b.write(file, "\n".join(map(json.dumps, records)))
        info |= {name: {"file_name": file, "formatting": "sharegpt"}, f"{name}_test": info["color_test"]}
        b.write("dataset_info.json", info)
        return {"fcit_stages": [[name], ["letter"]]}

    return change


def looked_at(b: Bench) -> list[str]:
    """The command line of a dry run."""
    return ["train", str(b.recipe), "--dry-run"]


FORMATS = [
    Case(
        "a null turn in a parquet file, seen by a dry run",
        ("`own talks`", "the talks.parquet", "record 3", "turn 1"),
        spoil=talks("own talks", "parquet", lambda records: records[3]["conversations"].__setitem__(1, None)),
        arguments=looked_at,
    ),
    Case(
        "a conversation that is a number among JSON lines, seen by a dry run",
        ("`a.b`", "the talks.jsonl", "record 3", "`conversations`", "a number"),
        spoil=talks("a.b", "jsonl", lambda records: records[3].update(conversations=7)),
        arguments=looked_at,
    ),
    Case(
        "a record that LLaMA-Factory leaves out, with strict records",
        ("`e`", "the talks.jsonl", "record 3", "1 turns", "`fcit_strict_records`"),
        {"fcit_strict_records": True},
        spoil=talks("e", "jsonl", lambda records: records[3]["conversations"].pop()),
        arguments=looked_at,
    ),
    Case(
        "records that LLaMA-Factory leaves out, all of them",
        ("`hôpital/été`", "the talks.jsonl", "record 0", "none of the dataset's 24 records"),
        spoil=talks("hôpital/été", "jsonl", lambda records: [record["conversations"].pop() for record in records]),
    ),
]

CLIENTS = [
    Case("too few records for the clients", ("color", "60 are needed"), {"fcit_min_client_samples": 20}, loads=True),
    Case(
        "more clients than records",
        ("color", "100 clients"),
        {"fcit_num_clients": 100, "fcit_min_client_samples": 1},
        loads=True,
    ),
    Case("a client without data", ("client 1", "letter"), spoil=clients("a", "b", "c"), loads=True),
    Case("other clients than the records name", ("fcit_num_clients: 2",), spoil=clients("a", "b"), loads=True),
    Case(
        "a client column that is not there",
        ("Record 0", "'hospital'"),
        {"fcit_partition": "natural", "fcit_partition_column": "hospital"},
        loads=True,
    ),
    Case("released partitions of no release", ("released", "custom"), {"fcit_partition": "released"}),
]

CASES = [*INFO, *FILES, *RECORDS, *IMAGES, *FORMATS, *CLIENTS]
