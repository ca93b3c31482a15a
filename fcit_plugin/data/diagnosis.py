"""Why a dataset cannot be used: looked for once LLaMA-Factory has failed to read it, so that good data cost nothing.

What is looked at may hold anything. So each look is told apart by what it may raise, and what none of them explains is said
in the words of the library that has failed.
"""

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset
from datasets.exceptions import DatasetsError

from ..errors import FcitError, module_of, one_line, root_cause
from ..fcit_benchmark.records import MEND, Defect, json_kind, with_article
from ..files import parse_json, read_bytes
from .catalogue import Catalogue
from .converter import image_path
from .forms import Form, Use, Verdict, images_of, judge
from .image_faults import NO_IMAGE, SHOWN, first_image_problem, image_problem, is_file
from .named import Named
from .raw_records import files_of, plain_records, read_raw
from .slices import is_part, numbers_of

#: What LLaMA-Factory, datasets, Arrow, pandas, Pillow and our converter raise over a malformed file, record or image.
_FAILURES = (DatasetsError, pa.ArrowException, RecursionError, *NO_IMAGE)
#: Those of them that are raised over what a user has written; the others may be a programmer's.
_USERS = (DatasetsError, pa.ArrowException, OSError, ValueError)
#: The same over a record that is tokenized: what it says of tools and their calls is parsed there.
_TOKENIZING = (*_FAILURES, RuntimeError)
#: Modules whose errors are about what a record says, also where each record fails alike.
_PARSERS = ("llamafactory.data.formatter", "llamafactory.data.tool_utils")

_BOM = b"\xef\xbb\xbf"


def refusal(name: Named, catalogue: Catalogue, index: int, problem: str, kind: str = "record") -> FcitError:
    """The sentence about one record.

    Args:
        name: The dataset.
        catalogue: Has it.
        index: Of the record, from 0, as LLaMA-Factory has read it.
        problem: What is wrong with it.
        kind: See :class:`Defect`.
    """
    file, record = place_of(catalogue, name, index)
    return FcitError(f"Dataset `{name}`: {Defect(kind, file, record, problem)}")


def place_of(catalogue: Catalogue, name: Named, index: int) -> tuple[str, int]:
    """The file that a record stands in, and its index there, from 0."""
    entry = catalogue.entry(name)
    source = next((str(entry[key]) for key in entry if key.endswith(("_url", "file_name"))), str(name))
    try:
        files, split = files_of(catalogue, name), entry.get("split")
        if is_part(split):
            index = int(numbers_of(split, len(read_raw(files, None, catalogue.cache_dir)))[index])
        for file in files if len(files) > 1 else ():
            count = len(read_raw([file], None, catalogue.cache_dir))
            if index < count:
                return _relative(file, catalogue, name), index
            index -= count
        return _relative(files[0], catalogue, name) if len(files) == 1 else source, index
    except _FAILURES:  # it was read from somewhere else, or is gone by now: what its entry says is all there is
        return source, index


def verdict_on(name: Named, catalogue: Catalogue, use: Use, index: int) -> Verdict:
    """What becomes of a record, by how it stands in its file; nothing is said of one that comes from somewhere else."""
    record = raw_record(name, catalogue, index)
    return Verdict() if record is None else judge(record, Form.of(catalogue.entry(name)), use)


def raw_record(name: Named, catalogue: Catalogue, index: int) -> dict[str, Any] | None:
    """A record as it stands in its file; None of one that comes from somewhere else."""
    try:
        rows = read_raw(files_of(catalogue, name), catalogue.entry(name).get("split"), catalogue.cache_dir)
        (record,) = plain_records(rows.select([index]))
    except _FAILURES:
        return None
    return record


def _relative(file: Path, catalogue: Catalogue, name: Named) -> str:
    return os.path.relpath(file, catalogue.root(name))


@contextlib.contextmanager
def diagnosed(name: Named, catalogue: Catalogue, use: Use, trial: Callable[[Any], object] | None = None) -> Iterator[None]:
    """Within the block a dataset is read; if that fails, the file and record that it fails on are named.

    Args:
        name: The dataset.
        catalogue: Has it.
        use: What its records are for.
        trial: Does with one record what is done within the block, and fails as it does.

    Raises:
        FcitError: What is wrong, in one sentence. An error that no file or record explains goes on as it is if it may be a
            programmer's.
    """
    try:
        yield
    except _FAILURES as error:
        sentence = _about_files(name, catalogue, use, trial)
        _tell(name, error, sentence)


@contextlib.contextmanager
def diagnosed_rows(
    name: Named, catalogue: Catalogue, rows: Dataset, kept: Sequence[int], trial: Callable[[Any], object]
) -> Iterator[None]:
    """Within the block records in the standard form are tokenized; if that fails, the one that it fails on is named.

    Args:
        name: The dataset.
        catalogue: Has it.
        rows: The records.
        kept: Which ones of the dataset they are.
        trial: Tokenizes one.

    Raises:
        FcitError: See :func:`diagnosed`.
    """
    try:
        yield
    except _TOKENIZING as error:
        sentence = None
        found = _first(_seen(rows, first_image_problem)) or _tried(rows, trial)
        if found is not None:
            sentence = str(refusal(name, catalogue, kept[found[0]], found[1]))
        _tell(name, error, sentence)


def _tell(name: Named, error: BaseException, sentence: str | None) -> None:
    if sentence is not None:
        raise FcitError(sentence) from error
    if isinstance(error, FcitError) and f"`{name}`" in str(error):
        raise error
    if not isinstance(error, _USERS):
        raise error
    reason = one_line(root_cause(error)).rstrip(".")[:SHOWN]
    raise FcitError(
        f"The dataset `{name}` cannot be used ({reason}); fix its file or its entry in dataset_info.json."
    ) from error


def _about_files(name: Named, catalogue: Catalogue, use: Use, trial: Callable[[Any], object] | None) -> str | None:
    """The sentence about the first file, or the first record, that something is wrong with."""
    try:
        files = files_of(catalogue, name)
    except FcitError as error:
        return str(error)
    entry = catalogue.entry(name)
    form, folder = Form.of(entry), catalogue.media_root(name)
    read = dict[Path, Dataset]()
    for file in files:
        try:
            read[file] = read_raw([file], None, catalogue.cache_dir)
        except _FAILURES as error:
            return f"Dataset `{name}`: {defect_of_file(file, _relative(file, catalogue, name), form, use, error)}"
    total, split = sum(map(len, read.values())), entry.get("split")
    problem = None
    try:
        taken = numbers_of(split, total)
        problem = f"takes none of its {total} records" if total and not len(taken) else None
    except (ValueError, AssertionError) as error:
        problem = f"cannot be read of its file ({one_line(error).rstrip('.')[:SHOWN]})"
    if problem is not None:
        return f"The dataset `{name}` has `split: {split}` in dataset_info.json, which {problem}; correct it, or take it out."
    begin = 0
    for file, all_rows in read.items():
        numbers = taken[(taken >= begin) & (taken < begin + len(all_rows))] - begin
        begin, place, rows = begin + len(all_rows), _relative(file, catalogue, name), all_rows.select(numbers)
        found = (
            _first(_seen(rows, lambda record: judge(record, form, use).broken))
            or _first(_seen(rows, lambda record: _media_problem(record, form, folder)))
            or (_tried(rows, trial) if trial is not None else None)
        )
        if found is not None and len(all_rows) == 1 and file.suffix == ".json":  # it may be one object around all records
            whole = _about_json(read_bytes(file), form, use)
            if whole is not None and whole[1] is None:
                kind, record, problem, remedy = whole
                return f"Dataset `{name}`: {Defect(kind, place, record, problem, remedy)}"
        if found is not None:
            return f"Dataset `{name}`: {Defect('record', place, int(numbers[found[0]]), found[1])}"
    return None


def _seen(rows: Dataset, look: Callable[[dict[str, Any]], str | None]) -> Iterator[tuple[int, str | None]]:
    """What a look finds in each record, as plain values: one may have none, such as a text of bytes that are no text."""
    table = rows.with_format("arrow")
    for i in range(len(rows)):
        try:
            (record,) = table[i].to_pylist()
        except (ValueError, OverflowError, pa.ArrowException) as error:
            yield i, f"it cannot be read ({one_line(error)[:SHOWN]})"
        else:
            yield i, look(record)


def _first(problems: Iterator[tuple[int, str | None]]) -> tuple[int, str] | None:
    return next(((i, problem) for i, problem in problems if problem is not None), None)


def _tried(rows: Dataset, trial: Callable[[Any], object]) -> tuple[int, str] | None:
    """The first record that a trial fails on, and its words; None if all do, for then it is none of a record's faults."""
    failed, passed = None, False
    with contextlib.redirect_stdout(io.StringIO()):
        for i in range(len(rows)):
            try:
                trial(rows[i])
                passed = True
            except _TOKENIZING as error:
                if failed is None:
                    parsed = module_of(error) in _PARSERS
                    what = "its tools or their calls" if parsed else "it"
                    failed = i, f"LLaMA-Factory cannot take {what} ({type(error).__name__}: {one_line(error)[:SHOWN]})"
                    passed = passed or parsed
            if failed is not None and passed:
                return failed
    return failed if len(rows) == 1 else None


def _media_problem(record: Mapping[str, Any], form: Form, folder: str | None) -> str | None:
    """What is wrong with the images that a record names."""
    name, images = form.column("images"), images_of(record, form)
    if form.formatting == "fcit":
        given = record.get(name) if name else None
        if given and not isinstance(given, str):
            return f"its `{name}` is a JSON {json_kind(given)} and not the path of one image"
        try:
            return image_path(folder or "", given) and None if given else None
        except (FcitError, ValueError) as error:  # a path with a zero byte is none
            return str(error)
    for image in images:
        path = os.path.join(folder or "", image) if isinstance(image, str) else image
        problem = image_problem(path if not isinstance(path, str) or is_file(path) else image)
        if problem is not None:
            return problem
    return None


def defect_of_file(file: Path, place: str, form: Form, use: Use, error: BaseException) -> Defect:
    """What is wrong with a file that cannot be read.

    Args:
        file: The file.
        place: What it is called.
        form: How its records are to be written; where that is not known, one of no known formatting.
        use: What its records are for.
        error: What reading it raised.
    """
    kind, record, problem, remedy = _about_file(file, form, use, error)
    return Defect(kind, place, record, problem, remedy)


def _about_file(file: Path, form: Form, use: Use, error: BaseException) -> tuple[str, int | None, str, str]:
    """Kind, record, problem and remedy of a file that cannot be read."""
    again = "write it again"
    try:
        content = read_bytes(file)
    except FcitError as unreadable:
        return "file", None, f"it cannot be read ({unreadable.__cause__ or unreadable})", "check that file"
    if not content.strip():
        return "empty file", None, "the file is empty", again
    if file.suffix in (".json", ".jsonl"):
        found = _about_json(content, form, use)
        if found is not None:
            return found
    if file.suffix in (".csv", ".txt"):
        try:
            content.decode()
        except UnicodeDecodeError as undecodable:
            return "file", None, f"it is not UTF-8 text at byte {undecodable.start}", "save it as UTF-8"
    reason = one_line(root_cause(error)).rstrip(".")[:SHOWN]
    if "corresponds to no data" in reason or "SchemaInferenceError" in type(root_cause(error)).__name__:
        return "empty file", None, "it has no records", again
    return "file", None, f"it cannot be read ({reason})", again


def _about_json(content: bytes, form: Form, use: Use) -> tuple[str, int | None, str, str] | None:
    again = "write it again"
    if content.startswith(_BOM):
        return "BOM", None, "it begins with a byte order mark (BOM)", "save it as UTF-8 without one"
    try:
        records = _parsed(content)
    except UnicodeDecodeError as error:
        return "invalid JSON", None, f"it is not UTF-8 text at byte {error.start}", "save it as UTF-8"
    except json.JSONDecodeError as error:
        cut_off = not error.doc[error.pos :].strip() or error.msg.startswith("Unterminated string")
        fault = "it is cut off" if cut_off else f"it is not JSON ({error.msg})"
        place = f"at line {error.lineno}, column {error.colno} (character {error.pos})"
        return "invalid JSON", None, f"{fault} {place}", again
    if not isinstance(records, list):
        return "invalid JSON", None, f"it holds a JSON {json_kind(records)} and no list of records", again
    if not records:
        return "empty file", None, "it has no records", again
    names = dict.fromkeys(key for record in records if isinstance(record, dict) for key in record)
    for i, record in enumerate(records):
        whole = {**dict.fromkeys(names), **record} if isinstance(record, dict) else record
        broken = judge(whole, form, use).broken
        if broken is not None:
            return "record", i, broken, MEND
    kinds: dict[tuple[str, ...], tuple[str, int]] = {}
    for i, record in enumerate(records):
        for path, kind in _kinds(record):
            first, before = kinds.setdefault(path, (kind, i))
            if first != kind:
                problem = f"its {_spoken(path)} is {with_article(kind)}, and in record {before} it is {with_article(first)}"
                return "record", i, problem, "make them all one kind"
    return None


def _parsed(content: bytes) -> Any:
    """The records of a JSON file: a list, or one object a line.

    Raises:
        json.JSONDecodeError: It is neither; the position is that in the file.
    """
    try:
        return parse_json(content)
    except json.JSONDecodeError as error:
        text = content.decode()
        if "Extra data" not in error.msg:
            raise
        records, position = [], 0
        for line in text.split("\n"):  # and at none of the other ends of a line, which may stand in a text
            if line.strip():
                try:
                    records.append(parse_json(line.encode()))
                except json.JSONDecodeError as inner:
                    raise json.JSONDecodeError(inner.msg, text, position + inner.pos) from error
            position += len(line) + 1
        return records


def _kinds(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """What a value and the values in it are, by where they stand; nothing about what is null.

    Not by recursion: a record may be nested as deeply as its writer likes.
    """
    left = [(path, value)]
    while left:
        path, value = left.pop()
        if value is None:
            continue
        yield path, json_kind(value)
        if isinstance(value, dict):
            left += [((*path, key), one) for key, one in value.items()]
        elif isinstance(value, list):
            left += [((*path, "[]"), one) for one in value]


def _spoken(path: tuple[str, ...]) -> str:
    return f"`{'.'.join(path).replace('.[]', '[]')}`" if path else "value"
