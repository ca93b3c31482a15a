"""Cells of tables come from anywhere."""

from fcit_plugin.evaluation.tables import align, markdown


def test_cells_do_nothing_to_a_terminal():
    assert align([["a\x1b[31m", "b"], ["c", "d"]]) == ["a\\x1b[31m  b", "c          d"]


def test_cells_of_markdown_stay_cells_and_hold_no_html():
    assert (
        markdown([["a|b", "1"], ["<img src=x>\nc", "2"]]) == "| a&#124;b | 1 |\n| --- | ---: |\n| &#60;img src=x&#62; c | 2 |"
    )
