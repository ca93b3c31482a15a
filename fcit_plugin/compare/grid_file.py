"""The grid file of ``fcit-cli compare``: which recipes it stands for, and where each of them lies."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..errors import FcitError, nearest
from ..recipe.read import read_recipe, read_yaml
from ..schema import Count, Number, PathName, Text, Whole, Word, checked, form_of
from .published import Published, PublishedForm

#: What a row may say beside keys of the recipe.
_SEEDS, _EVALUATES = "seeds", "evaluates"

#: Keys of the recipe that the grid sets, and where it is told them.
_GRIDS_OWN = {"fcit_beta": "betas", "seed": "seeds", "output_dir": "output_dir", "fcit_setting": "settings"}

#: What a table can be drawn as.
PLOTS = ("curves", "matrices", "forgetting", "traffic", "bars")

_DEFAULT_PLOTS = ("curves", "forgetting", "traffic")


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        setting: name of its setting: `fcit_setting`, unless the grid file gives that name a setting of its own.
        beta: `fcit_beta`.
        row: name of its row.
        seed: its seed.
        folder: its output folder.
        keys: its whole recipe.
        evaluates: the cell whose folder it evaluates again, None for one that is trained.
    """

    setting: str
    beta: float
    row: str
    seed: int
    folder: Path
    keys: dict[str, Any] = field(repr=False)
    evaluates: "Cell | None" = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What it is called: setting, beta, row and seed."""
        return cell_name(self.setting, self.beta, self.row, self.seed)


def cell_name(setting: str, beta: float, row: str, seed: int) -> str:
    """The name of a cell, and where it lies below the grid's `output_dir`."""
    return f"{setting}/beta{beta:g}/{row}/seed{seed}"


def file_stem(table: str, setting: str) -> str:
    """How the files of a table in a setting begin."""
    return f"{table}_{setting}"


@dataclass(frozen=True)
class Table:
    """A part of the grid that the document shows together: for each setting a table.

    Attributes:
        name: in the grid file.
        title: its heading.
        about: a paragraph below the heading.
        rows: names of rows, in the order of the table.
        settings: names of settings.
        betas: if there are several, each row appears once for each.
        seeds: over which mean and deviation go.
        plots: of `PLOTS`.
    """

    name: str
    title: str
    about: str
    rows: tuple[str, ...]
    settings: tuple[str, ...]
    betas: tuple[float, ...]
    seeds: tuple[int, ...]
    plots: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    """The keys of a grid file, with their defaults."""

    base: PathName
    output_dir: PathName
    document: PathName
    rows: dict[PathName, dict[Word, Any]]
    title: Word = "Comparison"
    about: Text = ""
    common: dict[Word, Any] = field(default_factory=dict)
    settings: dict[PathName, dict[Word, Any]] = field(default_factory=lambda: {"task_hom": {}})
    betas: list[Number] = field(default_factory=lambda: [1.0])
    seeds: list[Whole] = field(default_factory=lambda: [1])
    plots: list[Word] = field(default_factory=lambda: list(_DEFAULT_PLOTS))
    tables: dict[PathName, dict[Word, Any]] = field(default_factory=dict)
    reference: Word | None = None
    published: PublishedForm | None = None
    jobs: Count | None = None


class GridFile:
    """A grid file, checked.

    Args:
        path: of the file. `base` in it is found from there, `output_dir` and `document` from the working folder.

    Attributes:
        tables: what the document shows, in its order.
        reference: the row that the others' differences are taken from, seed by seed; None for none.
        cells: all runs, each once, in the order in which they are best run: a grid that is broken off has whole
            tables for the seeds that it came to.

    Raises:
        FcitError: one sentence that names the file and the key.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _read(path)
        given = self._file
        self.title, self.about, self.jobs = given.title, given.about, given.jobs
        self.output_dir, self.document = Path(given.output_dir), Path(given.document)
        self.published = Published.of(given.published)
        self.reference = given.reference
        if self.reference is not None and self.reference not in given.rows:
            raise FcitError(
                f"{path}: `reference`: {self.reference!r} is none of the `rows`; {nearest(self.reference, given.rows)}"
            )
        base = path.parent / given.base
        try:
            self._base = _load(base)
        except FcitError as error:
            raise FcitError(f"{path}: `base`: {error}") from error
        if self._base.get("stage") != "fcit":
            raise FcitError(f"{path}: `base` {base} is not a recipe with `stage: fcit`; name one.")
        if given.jobs is not None and (type(given.jobs) is not int or given.jobs < 1):
            raise FcitError(f"{path}: `jobs` is a number of processes, at least 1, not {given.jobs!r}.")
        whole = {"rows": list(given.rows), "settings": list(given.settings)}
        whole |= {key: getattr(given, key) for key in ("betas", "seeds", "plots")}
        parts = given.tables or {"all": {"title": given.title}}
        self.tables = tuple(self._make_table(name, whole | part) for name, part in parts.items())
        self._check_files()
        self._check_seeds_of_rows()
        self._check_published()
        self._cells: dict[str, Cell] = {}
        self.cells = tuple(self._order_cells())

    def cell(self, setting: str, beta: float, row: str, seed: int) -> Cell:
        """One cell, whether or not a table asks for it."""
        name = cell_name(setting, beta, row, seed)
        if name in self._cells and self._cells[name].beta != beta:
            raise FcitError(
                f"{self.path}: the betas {self._cells[name].beta!r} and {beta!r} have one folder, {name}; keep one of them."
            )
        if name not in self._cells:
            own = dict(self._file.rows[row])
            own.pop(_SEEDS, None)
            of = own.pop(_EVALUATES, None)
            evaluated = None if of is None else self.cell(setting, beta, of, seed)
            folder = self.output_dir / name
            if evaluated is None:
                keys = self._base | self._file.common | {"fcit_setting": setting} | self._file.settings[setting]
            else:
                keys = evaluated.keys | {"do_train": False, "adapter_name_or_path": str(evaluated.folder)}
            keys = copy.deepcopy(keys | own)
            keys |= {"fcit_beta": float(beta), "seed": seed, "output_dir": str(folder)}
            keys.pop("overwrite_output_dir", None)  # an interrupted cell shall go on
            self._cells[name] = Cell(setting, float(beta), row, seed, folder, keys, evaluated)
        return self._cells[name]

    def seeds_of(self, table: Table, row: str) -> list[int]:
        """The seeds of a row in a table: a row may ask for fewer than the table has."""
        own = self._file.rows[row].get(_SEEDS, table.seeds)
        return [seed for seed in table.seeds if seed in own]

    def _check_files(self) -> None:
        """Refuse tables whose files would be one another's."""
        owners: dict[str, str] = {}
        for table in self.tables:
            for setting in table.settings:
                stem = file_stem(table.name, setting)
                if stem in owners:
                    raise FcitError(
                        f"{self.path}: table {table.name!r} in the setting {setting!r} has the same files, {stem}.*, as "
                        f"{owners[stem]}; name the table otherwise."
                    )
                owners[stem] = f"table {table.name!r} in the setting {setting!r}"

    def _check_seeds_of_rows(self) -> None:
        for row, own in self._file.rows.items():
            there = [seed for table in self.tables if row in table.rows for seed in table.seeds]
            for seed in own.get(_SEEDS, []):
                if there and seed not in there:
                    known = sorted(set(there))
                    raise FcitError(
                        f"{self.path}: row {row!r} asks for seed {seed!r}, but the tables that show it have {known}."
                    )

    def _check_published(self) -> None:
        """Refuse published numbers that would stand beside none of ours, for nobody would miss them."""
        if self.published is None:
            return
        where, betas = f"{self.path}: `published`", sorted({beta for table in self.tables for beta in table.betas})
        if self.published.beta not in betas:
            raise FcitError(f"{where}: no table has the beta {self.published.beta:g} that it names; they have {betas}.")
        for setting, rows in self.published.scores.items():
            for key, names in (("settings", [setting]), ("rows", [*rows])):
                for name in names:
                    known = getattr(self._file, key)
                    if name not in known:
                        raise FcitError(f"{where}: {name!r} is none of the `{key}`; {nearest(name, known)}")

    def _order_cells(self) -> list[Cell]:
        """Seed by seed, in each of them table by table, what is evaluated again after what it is made from."""
        found: dict[str, Cell] = {}

        def add(cell: Cell) -> None:
            if cell.evaluates is not None:
                add(cell.evaluates)
            found.setdefault(cell.name, cell)

        for place in range(max(len(table.seeds) for table in self.tables)):
            for table in self.tables:
                for seed in table.seeds[place : place + 1]:
                    for setting in table.settings:
                        for beta in table.betas:
                            for row in table.rows:
                                if seed in self.seeds_of(table, row):
                                    add(self.cell(setting, beta, row, seed))
        return list(found.values())

    def _make_table(self, name: str, part: Mapping[str, Any]) -> Table:
        where = f"{self.path}: table {name!r}"
        kinds = {item.name for item in fields(Table)} - {"name"}
        for key in part:
            if key not in kinds:
                raise FcitError(f"{where} has an unknown key `{key}`; {nearest(key, sorted(kinds))}")
        known = {"rows": list(self._file.rows), "settings": list(self._file.settings), "plots": list(PLOTS)}
        for key, valid in known.items():
            values = _check_list(where, key, part[key])
            if not values and key != "plots":
                raise FcitError(f"{where}: `{key}` names none, so there is nothing to run; name one, or leave the key out.")
            for value in values:
                if value not in valid:
                    raise FcitError(f"{where}: {value!r} is none of the `{key}`; {nearest(str(value), valid)}")
        for key, kind, what in (("betas", (int, float), "numbers"), ("seeds", int, "whole numbers")):
            values = _check_list(where, key, part[key])
            if not values or any(isinstance(value, bool) or not isinstance(value, kind) for value in values):
                raise FcitError(f"{where}: `{key}` is a list of {what}, not {part[key]!r}.")
            checked(list[Number] if key == "betas" else list[Whole], values, f"{where}: `{key}`", "fix it")
        for key in ("rows", "settings", "betas", "seeds"):
            for value in part[key]:
                if part[key].count(value) > 1:
                    raise FcitError(f"{where}: {value!r} stands in `{key}` twice; keep it once.")
        lists = {key: tuple(part[key]) for key in ("rows", "settings", "betas", "seeds", "plots")}
        return Table(name, str(part.get("title", name)), str(part.get("about", "")).strip(), **lists)


def choose_cells(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """The cells whose name has a part that fits one of the patterns, and those they are evaluated from; else all.

    Raises:
        FcitError: a pattern fits no cell.
    """
    for pattern in patterns:
        if not any(_fits(cell, pattern) for cell in cells):
            raise FcitError(f"`--only {pattern}` fits no cell; `--dry-run` lists them.")
    fitting = [cell for cell in cells if not patterns or any(_fits(cell, pattern) for pattern in patterns)]
    needed = {cell.evaluates.name for cell in fitting if cell.evaluates} | {cell.name for cell in fitting}
    return [cell for cell in cells if cell.name in needed]


def _fits(cell: Cell, pattern: str) -> bool:
    return fnmatchcase(cell.name, f"*{pattern}*")


def _read(path: Path) -> _File:
    given = _load(path)
    items = {item.name: item for item in fields(_File)}
    for key in given:
        if key not in items:
            raise FcitError(f"{path}: unknown key `{key}`; {nearest(key, items)}")
    for key in ("base", "output_dir", "document", "rows"):
        if not given.get(key):
            raise FcitError(f"{path} has no `{key}`; see recipes/compare/mini.yaml.")
    for key in ("rows", "settings", "tables"):
        for name, part in (_check_mapping(path, key, given.get(key))).items():
            if "/" in str(name) or str(name) in ("", ".", ".."):
                raise FcitError(f"{path}: {name!r} in `{key}` is to be the name of one file or folder; give it another one.")
            if not isinstance(part, dict):
                raise FcitError(f"{path}: {name!r} in `{key}` must be keys and values, or {{}}, not {part!r}.")
    common = _check_mapping(path, "common", given.get("common"))
    parts = [("common", common), *((f"row {name!r}", row) for name, row in given["rows"].items())]
    parts += [(f"setting {name!r}", part) for name, part in (given.get("settings") or {}).items()]
    for where, part in parts:
        for key in _GRIDS_OWN.keys() & part.keys():
            if key != "fcit_setting" or not where.startswith("setting"):
                raise FcitError(
                    f"{path}: {where} has `{key}`, which the grid sets for each run; give it in `{_GRIDS_OWN[key]}`."
                )
    found = _File(**checked(form_of(_File), {k: value for k, value in given.items() if value is not None}, str(path), "fix it"))
    for name, row in found.rows.items():
        of = row.get(_EVALUATES)
        if of is not None and (of not in found.rows or _EVALUATES in found.rows[of]):
            raise FcitError(f"{path}: row {name!r} evaluates {of!r}, which is not a row that is trained.")
        if _SEEDS in row and not _check_list(f"{path}: row {name!r}", _SEEDS, row[_SEEDS]):
            raise FcitError(f"{path}: row {name!r}: `{_SEEDS}` has none, so it is never run; give it one, or take the row out.")
    return found


def _load(path: Path) -> dict[str, Any]:
    found = read_recipe(lambda: read_yaml(path), [str(path)])
    return checked(dict[Word, Any], found, str(path), "it has to be keys and values")


def _check_mapping(path: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value or {}, dict):
        raise FcitError(f"{path}: `{key}` must be keys and values, not {value!r}.")
    return value or {}


def _check_list(where: str, key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise FcitError(f"{where}: `{key}` must be a list, not {value!r}.")
    return value
