"""LaTeX tables: the numbers are those of the runs, the best is bold, every name is set as it is."""

import re
import shutil
import subprocess

import pytest
from reports import matrix_of, report_with
from test_side_by_side import report, runs

from fcit_plugin.errors import printable
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


#: Whatever TeX has a meaning for, alone and where a row or a cell begins.
NAMES = [
    *("a_b", "50%", "{x}", "$1", "a&b", "#1", "~", "^", "^^M", "\\input{x}", "\\end{tabular}", "<a|b>", "a--b---c", "''q''"),
    *("[1ex] first", "[", "*", "*[2]", "-3.25", "+1", '"q"', "`q`", "?`", "a\tb", "a\x1b[31mb", "%", "\\", "\\\\"),
]
OTHER_SCRIPTS = ["北京协和医院", "東京大学", "서울", "Москва", "Zürich", "Łódź"]


@pytest.mark.parametrize("name", [*NAMES, *OTHER_SCRIPTS, "a\nb"])
def test_names_are_set_as_they_are(name):
    made = escaped(name)
    assert "\n" not in made
    plain = re.sub(r"\\text\w+\{\}|\\[{}$&#%_]|\{\}", "", made)
    assert not re.search(r"[\\{}$&#%_~^]", plain)
    assert len(tables(latex([side_by_side("custom", {name: [report()]})]))[0]) == 2


def test_braces_and_dollars_are_balanced():
    text = latex(compare(runs()))
    assert text.count("{") == text.count("}") and text.count("$") % 2 == 0
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\begin{tabular}")


#: What TeX sets in place of signs of a keyboard.
_PLAIN = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{SMALL TILDE}": "~",
        "\N{MODIFIER LETTER CIRCUMFLEX ACCENT}": "^",
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    }
)


def compiled(engine, body, folder, preamble=""):
    """What a document of some tables says, by `pdftotext`."""
    for program, package in (
        (engine, "texlive-xetex" if engine == "xelatex" else "texlive-latex-recommended"),
        ("pdftotext", "poppler-utils"),
    ):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here (apt-get install {package})")
    head = f"\\documentclass{{article}}\\usepackage{{booktabs}}{preamble}\\begin{{document}}\\small"
    (folder / "t.tex").write_text(f"{head}\n{body}\n\\end{{document}}\n")
    done = subprocess.run(
        [engine, "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-3000:]
    text = subprocess.run(["pdftotext", "-layout", "t.pdf", "-"], cwd=folder, capture_output=True, text=True, check=True).stdout
    return [" ".join(line.split()) for line in text.translate(_PLAIN).splitlines() if line.strip()]


def test_latex_sets_all_names_as_they_are(tmp_path):
    groups = {name: [report(seed=s) for s in (1, 2)] for name in NAMES}
    lines = compiled("pdflatex", latex([side_by_side("custom", groups)]), tmp_path)
    for name in NAMES:
        wanted = "".join(printable(name).split()).replace("_", "")  # which is drawn, and is no letter of these fonts
        assert sum(line.replace(" ", "").startswith(wanted) for line in lines) >= 2, (name, lines)


def test_latex_takes_datasets_and_settings_of_any_name(tmp_path):
    """As heads of columns, and in comments, where a line must not end early."""
    made = report_with(matrix_of(dict.fromkeys(NAMES, -1.5)), [NAMES], setting=" ".join(NAMES) + "\nnext \u2028 one")
    body = latex([side_by_side(made.setting, {"a": [made], "b": [made]}, "a")])
    assert all(line.startswith("%") for line in body.splitlines() if "next" in line) and "-1.50" in body
    compiled("pdflatex", body, tmp_path)


def test_numbers_are_those_of_the_table_and_minus_is_one(tmp_path):
    one = {"a": [report("disco", seed=s) for s in (1, 2)], "b": [report("ewc", a=(90, 20 + s), seed=s) for s in (1, 2)]}
    comparison = side_by_side("custom", one, "a")
    text = "\n".join(compiled("pdflatex", latex([comparison]), tmp_path))
    wanted = difference_rows(comparison, {"Last": MEASURES["Last"]})[1][2]
    assert all(number in text for number in re.findall(r"[+-]\d+\.\d\d", wanted)) and "-" in wanted


def preamble_of(body):
    """What the tables themselves say that they need, with a font that has Cyrillic letters, too."""
    needs = "".join(line for line in body.splitlines() if line.startswith("% needs"))
    return "".join(re.findall(r"\\\w+\{[\w ]+\}", needs)).replace("a font that has its letters", "DejaVu Serif")


@pytest.mark.parametrize("chosen", [OTHER_SCRIPTS, ["北京协和医院", "東京大学", "カルテ要約", "서울", "Łódź"]])
def test_a_document_with_what_the_tables_say_they_need_sets_other_scripts(tmp_path, chosen):
    if shutil.which("kpsewhich") and subprocess.run(["kpsewhich", "xeCJK.sty"], stdout=subprocess.DEVNULL).returncode:
        pytest.skip("there is no xeCJK here (apt-get install texlive-lang-chinese fonts-noto-cjk)")
    made = report_with(matrix_of(dict.fromkeys(chosen, 1.5)), [chosen], setting="联邦")
    body = latex([side_by_side(made.setting, {name: [made] for name in chosen})])
    lines = compiled("xelatex", body, tmp_path, preamble_of(body))
    assert all(sum(line.startswith(name) for line in lines) >= 2 for name in chosen)
    assert sum(all(name in line for name in chosen) for line in lines) == 1
    assert "Missing character" not in (tmp_path / "t.log").read_text(errors="replace")


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("a & b", []),
        ("Zürich, Łódź", []),
        ("北京", ["xeCJK"]),
        ("カルテ", ["xeCJK"]),
        ("서울", ["xeCJK"]),
        ("Москва", ["fontspec"]),
        ("Αθήνα", ["fontspec"]),
        ("京都 Москва", ["xeCJK", "fontspec"]),
    ],
)
def test_tables_say_what_their_letters_need(name, packages):
    text = latex([side_by_side("custom", {name: [report()]})])
    assert re.findall(r"^% needs.*?\\usepackage\{(\w+)\}", text, re.MULTILINE) == ["booktabs", *packages]
