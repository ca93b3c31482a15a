"""Boxes in texts, and their overlap, on cases worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcit_plugin.evaluation.boxes import iou, parse_box


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("[0.1, 0.2, 0.3, 0.4]", (0.1, 0.2, 0.3, 0.4)),
        ("0.1 0.2 0.3 0.4", (0.1, 0.2, 0.3, 0.4)),
        ("(.1; .2; 3.; .4)", (0.1, 0.2, 3, 0.4)),
        ("[\n 0.1,\n 0.2,\r\n 0.3,\t0.4\n]", (0.1, 0.2, 0.3, 0.4)),
        ("[[0.1,0.2,0.3,0.4]]", (0.1, 0.2, 0.3, 0.4)),
        ("The 2 dogs are at [0.00,0.00,1.00,0.75].", (0, 0, 1, 0.75)),
        ("at 0, 0, 1, 1.", (0, 0, 1, 1)),
        ("[-0.5, +0.1, -1, 1e-1]", (-0.5, 0.1, -1, 0.1)),
        ("[120, 45, 300, 200]", (120, 45, 300, 200)),
        ("[0.1, 0.2, 0.3, 0.4] or [0.5, 0.6, 0.7, 0.8]", (0.1, 0.2, 0.3, 0.4)),
        ("1 2 3, [5, 6, 7, 8]", (5, 6, 7, 8)),
        ("[0.9, 0.2, 0.3, 0.4]", (0.9, 0.2, 0.3, 0.4)),
    ],
)
def test_the_first_four_numbers_in_a_row_are_taken_as_they_stand(text, box):
    assert parse_box(text) == box


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no box",
        "[0, 0, 1]",
        "[0, 0, 1, 1, 0.9]",
        "0 0 1 1 0 0 1 1",
        "[0, 0, 1, x1]",
        "[0, 0, 1, 1x]",
        "[10%, 20%, 30%, 40%]",
        "[0, 0, 1, 40%]",
        "[10px, 20px, 30px, 40px]",
        "0.1-0.2-0.3-0.4",
        "[0.1, 0.2, 0.3, 0.4.5]",
        "[0.1, 0.2, 0.3, 0..4]",
        "0.1, 0.2, 0.3, 0.4.%",
        "0.1, 0.2, 0.3, 0.4.x",
        "0.1. 0.2. 0.3. 0.4.",
        "x1=0 y1=0 x2=1 y2=1",
        "[0, 0, nan, 1]",
    ],
)
def test_anything_else_is_no_box(text):
    assert parse_box(text) is None
    assert iou(text, [0, 0, 1, 1]) == 0


#: How a box may be written: as whole numbers, with and without digits before and behind the point, signed, with an exponent.
NUMBERS = {
    "0 1 2 3": (0, 1, 2, 3),
    "0.10 0.20 0.30 0.40": (0.1, 0.2, 0.3, 0.4),
    ".1 .2 .3 .4": (0.1, 0.2, 0.3, 0.4),
    "-0.5 +0.1 -1.25 0.75": (-0.5, 0.1, -1.25, 0.75),
    "1e-1 2.5e-1 3E-1 1.5e0": (0.1, 0.25, 0.3, 1.5),
}


@pytest.mark.parametrize("before", ["", "At ", "at: ", "box=", "(", "[", "**", '"', "\n", "the 2 dogs: ", "It is.\n"])
@pytest.mark.parametrize(
    "behind", ["", ".", "..", "...", "!", "?", ":", ";", ",", ")", "]", ").", ".)", '."', "**", ".**", "。"]
)
def test_a_box_counts_wherever_in_a_sentence_it_stands(before, behind):
    for numbers, box in NUMBERS.items():
        for separator in (", ", ",", "; ", " ", "\n"):
            written = numbers.replace(" ", separator)
            for after in ("", " ", "\n", " The rest is sky.", "</s>"):
                assert parse_box(f"{before}{written}{behind}{after}") == box, f"{before}{written}{behind}{after}"


# [0, 0, 1, 1] and [0, 0, 1, h]: IoU = h.
@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("[0, 0, 1, 1]", 1),
        ("[0.0, 0.0, 1.0, 0.51]", 1),
        ("[0, 0, 1, 0.5]", 0),
        ("0 0 1 9e-1", 1),
        ("[0.5, 0.5, 1.5, 1.5]", 0),
        ("[-1, 0, 1, 1]", 0),
        ("[-0.5, 0, 1, 1]", 1),
        ("[0, 0, 1e999, 1e999]", 0),
        ("[0, 0, 100, 100]", 0),
        ("[0, 0, 640, 640]", 0),
    ],
)
def test_iou(prediction, expected):
    assert iou(prediction, "[0, 0, 1, 1]") == expected
    assert iou(prediction, [0, 0, 1, 1]) == expected


@pytest.mark.parametrize("prediction", ["[1, 1, 0, 0]", "[1, 0, 0, 1]", "[0, 1, 1, 0]"])
def test_corners_the_wrong_way_round_hold_no_area(prediction):
    assert iou(prediction, [0, 0, 1, 1]) == 0


def test_iou_by_hand():
    # 4 x 4 and 4 x 4 shifted by 1: 12 in common, 20 together, 0.6; shifted by 2: 8 / 24.
    assert iou("[1, 0, 5, 4]", [0, 0, 4, 4]) == 1
    assert iou("[2, 0, 6, 4]", [0, 0, 4, 4]) == 0
    assert iou("[1, 1, 1, 1]", [1, 1, 1, 1]) == 0


CORNERS = st.lists(st.integers(0, 9), min_size=2, max_size=2, unique=True).map(sorted)


@given(CORNERS, CORNERS, CORNERS, CORNERS)
def test_iou_equals_counting_cells_of_a_grid(xs, ys, us, vs):
    def cells(x, y):
        return {(i, j) for i in range(*x) for j in range(*y)}

    one, other = cells(xs, ys), cells(us, vs)
    box = [xs[0], ys[0], xs[1], ys[1]]
    assert iou(str(box), [us[0], vs[0], us[1], vs[1]]) == (2 * len(one & other) > len(one | other))


@pytest.mark.parametrize("answer", ["nowhere", [0, 1, 2], [], ["0", "0", "1", "1"], "[0, 0, 1, 1, 1]"])
def test_iou_refuses_an_answer_without_a_box(answer):
    with pytest.raises(ValueError, match="not a box of four numbers"):
        iou("[0, 0, 1, 1]", answer)
