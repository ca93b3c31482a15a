"""LaTeX tables: the numbers are those of the runs, the best is bold, every name is set as it is."""

import re
import subprocess

import pytest
from test_side_by_side import report, runs

from fcit_plugin.evaluation.latex import escaped, latex
from fcit_plugin.evaluation.side_by_side import MEASURES, compare, difference_rows, side_by_side

NUMBER = r"-?\d+\.\d\d"


def tables(text):
    """The cells of each table, header first."""
    found = []
    for body in re.findall(r"\\begin\{tabular\}\{(l r*|l[r]*)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        lines = [line for line in body[1].splitlines() if line.endswith(r"\\")]
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))] for line in lines]
        assert {len(row) for row in rows} == {len(body[0])}, "as many cells in each row as there are columns"
        found.append(rows)
    return found


def test_means_deviations_and_the_best_of_each_score():
    comparison = compare(runs())[0]
    summaries, finals, _ = tables(latex([comparison]))
    header, *rows = summaries
    for row, group in zip(rows, comparison.groups, strict=True):
        assert row[:2] == [group.label, str(len(group.reports))]
        for name, cell in list(zip(header, row, strict=True))[2:]:
            spread = group.spread(MEASURES[name])
            numbers = [float(number) for number in re.findall(NUMBER, cell)]
            wanted = [spread.mean] if spread.deviation is None else [spread.mean, spread.deviation]
            assert numbers == [pytest.approx(number, abs=0.005) for number in wanted]
    bold = {(row[0], name) for row in rows for name, cell in zip(header, row, strict=True) if r"\mathbf" in cell}
    assert bold == {("disco", name) for name in ("Last", "Avg", "Forgetting", "BWT", "FWT")}, "bytes and minutes have no best"
    assert [row[0] for row in finals] == ["", "zero-shot", "fedavg", "disco"] and r"\mathbf" not in "".join(finals[1])


def test_ties_are_all_bold_and_a_single_group_is_not():
    one = {"a": [report("disco")], "b": [report("ewc")]}
    assert latex([side_by_side("custom", one)]).count(r"\mathbf") == 2 * (5 + 2)
    assert r"\mathbf" not in latex([side_by_side("custom", {"a": one["a"]})])


def test_differences_are_those_of_the_other_forms():
    disco, ewc = [report(seed=s) for s in (1, 2)], [report("ewc", a=(90, 60 + s), seed=s) for s in (1, 2)]
    comparison = side_by_side("custom", {"disco": disco, "ewc": ewc}, "disco")
    (header, *rows), wanted = tables(latex([comparison]))[2], difference_rows(comparison, {"Last": MEASURES["Last"]})
    cell = rows[0][header.index("Last")]
    assert re.findall(r"[+-]\d+\.\d\d", cell) == re.findall(r"[+-]\d+\.\d\d", wanted[1][2]) and len(rows) == 1


@pytest.mark.parametrize("name", ["a_b", "50%", "{x}", "$1", "a&b", "#1", "~", "^", "\\input{x}", "a\nb", "日本語", "<a|b>"])
def test_names_are_set_as_they_are(name):
    made = escaped(name)
    assert "\n" not in made
    plain = re.sub(r"\\text\w+\{\}|\\[{}$&#%_]", "", made)
    assert not re.search(r"[\\{}$&#%_~^]", plain)
    assert len(tables(latex([side_by_side("custom", {name: [report()]})]))[0]) == 2


def test_braces_and_dollars_are_balanced():
    text = latex(compare(runs()))
    assert text.count("{") == text.count("}") and text.count("$") % 2 == 0
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\begin{tabular}")


@pytest.mark.skipif(subprocess.run(["which", "pdflatex"], capture_output=True).returncode != 0, reason="there is no LaTeX here")
def test_latex_takes_it(tmp_path):
    body = latex(compare(runs()))
    (tmp_path / "t.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{body}\\end{{document}}"
    )
    subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True)
