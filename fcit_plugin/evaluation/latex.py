"""Comparisons as LaTeX tables for a paper: booktabs, the best of each column in bold, mean and deviation."""

import re
from collections.abc import Mapping, Sequence

from ..errors import printable
from .plots import short_name
from .side_by_side import MEASURES, PAIRED, Comparison, Group, Measure, Spread, difference_rows, difference_title, fewer_runs
from .tables import Rows

#: The measures whose best is bold, and which of two numbers is better; scores by dataset are of the first kind.
_BEST = {**dict.fromkeys(("score", "Last", "Last in labels", "Avg", "BWT", "FWT"), max), "Forgetting": min, "NLL": min}

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "`": r"\textasciigrave{}", '"': r"\textquotedblright{}",
}  # fmt: skip
#: Of two of these in a row LaTeX would make one sign.
_LIGATURES = re.compile(r"(?<=[-,'])(?=[-,'])")
#: What a document's preamble needs for letters that the tables have: Chinese, Japanese, Korean; others than Latin ones.
_PREAMBLES = (
    (
        re.compile(r"[\u1100-\u11ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"),
        r"XeLaTeX with \usepackage{xeCJK}\setCJKmainfont{Noto Serif CJK SC} for Chinese, Japanese, Korean",
    ),
    (
        re.compile(r"[\u0370-\u10ff\u1200-\u1dff\ua4d0-\ua95f\ua980-\uabff]"),
        r"XeLaTeX or LuaLaTeX with \usepackage{fontspec}\setmainfont{a font that has its letters}",
    ),
)


def escaped(text: str) -> str:
    """A text that LaTeX sets as it is, on one line, wherever it stands in a table."""
    line = " ".join(printable(text).split())
    found = "".join(_SPECIAL.get(letter, letter) for letter in _LIGATURES.sub("\0", line)).replace("\0", "{}")
    return f"{{}}{found}" if found.startswith(("[", "*")) else found  # \\ and \midrule take what follows for their own


def latex(comparisons: Sequence[Comparison], measures: Mapping[str, Measure] = MEASURES, paired: Sequence[str] = PAIRED) -> str:
    """Return all tables of some comparisons: summaries, scores by dataset, paired differences.

    Args:
        comparisons: each with groups.
        measures: the columns of the summaries.
        paired: those whose differences are told.
    """
    blocks: list[str] = []
    for comparison in comparisons:
        blocks += [
            f"% {_comment(comparison.title)}. Mean and standard deviation over the runs",
            _summaries(comparison, measures),
        ]
        blocks += ["% score after the last stage", _finals(comparison)]
        differences = difference_rows(comparison, {name: measures[name] for name in paired if name in measures})
        if len(differences) > 1:
            blocks += [f"% {_comment(difference_title(comparison))}", _plain(differences)]
    body = "\n".join(blocks) + "\n"
    needs = [r"\usepackage{booktabs}", *(preamble for letters, preamble in _PREAMBLES if letters.search(body))]
    return "".join(f"% needs {line}\n" for line in needs) + body


def _comment(text: str) -> str:
    return " ".join(text.split())


def _summaries(comparison: Comparison, measures: Mapping[str, Measure]) -> str:
    names = [name for name, measure in measures.items() if any(group.spread(measure) for group in comparison.groups)]
    columns = [[group.spread(measures[name]) for group in comparison.groups] for name in names]
    best = [_best(column, name) for name, column in zip(names, columns, strict=True)]
    rows = [[escaped(group.label), str(len(group.reports))] for group in comparison.groups]
    for number, (row, group) in enumerate(zip(rows, comparison.groups, strict=True)):
        row += [_cell(column[number], number in winners, group) for column, winners in zip(columns, best, strict=True)]
    return _tabular(["", "runs", *map(escaped, names)], rows)


def _finals(comparison: Comparison) -> str:
    columns = [[group.final_score(name) for group in comparison.groups] for name in comparison.datasets]
    best = [_best(column, "score") for column in columns]
    rows = [
        [escaped(label), *(_cell(Spread(scores[name], None), False, None) for name in comparison.datasets)]
        for label, scores in comparison.zero_shot.items()
    ]
    for number, group in enumerate(comparison.groups):
        cells = [_cell(column[number], number in winners, group) for column, winners in zip(columns, best, strict=True)]
        rows.append([escaped(group.label), *cells])
    return _tabular(["", *(escaped(short_name(name)) for name in comparison.datasets)], rows)


def _best(column: Sequence[Spread | None], name: str) -> set[int]:
    """The numbers of the rows whose mean, as it is shown, is the best of a column with several."""
    shown = {number: round(spread.mean, 2) for number, spread in enumerate(column) if spread is not None}
    if len(shown) < 2 or name not in _BEST:
        return set()
    top = _BEST[name](shown.values())
    return {number for number, value in shown.items() if value == top}


def _cell(spread: Spread | None, best: bool, group: Group | None) -> str:
    if spread is None:
        return "--"
    mean = f"{spread.mean:.2f}"
    mean = rf"\mathbf{{{mean}}}" if best else mean
    shown = f"${mean}$" if spread.deviation is None else rf"${mean} \pm {spread.deviation:.2f}$"
    return shown if group is None else f"{shown}{fewer_runs(spread, group)}"


def _plain(rows: Rows) -> str:
    """A table whose numbers are set as numbers, so that a minus is one."""
    header, *lines = rows
    cells = [[escaped(name), *(re.sub(r"[+-]?\d+(\.\d+)?", r"$\g<0>$", cell) if cell != "-" else "--" for cell in numbers)]
             for name, *numbers in lines]  # fmt: skip
    return _tabular([escaped(name) for name in header], cells)


def _tabular(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule", rf"{' & '.join(header)} \\", r"\midrule"]
    lines += [rf"{' & '.join(row)} \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
