"""Boxes and captions of test records, against hand-written files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcit_plugin.fcit_benchmark.records import BrokenFile
from fcit_plugin.fcit_benchmark.references import Captions, match_references, read_box


class TestBox:
    @pytest.mark.parametrize(
        "value",
        [[0.1, 0.25, 0.5, 1], (0.1, 0.25, 0.5, 1.0), "[0.1, 0.25, 0.5, 1.0]", "0.1,0.25,0.5,1", ["0.1", "0.25", ".5", "1"]],
    )
    def test_a_list_or_a_text_of_four_numbers(self, value):
        assert read_box(value) == [0.1, 0.25, 0.5, 1.0]

    @given(st.tuples(*[st.floats(0, 1)] * 4))
    def test_a_text_says_what_the_list_says(self, edges):
        x1, x2 = sorted(edges[:2])
        y1, y2 = sorted(edges[2:])
        if x1 < x2 and y1 < y2:
            assert read_box(str([x1, y1, x2, y2])) == [x1, y1, x2, y2]

    @pytest.mark.parametrize(
        "value", [None, "", "[]", [], [0.1] * 3, [0.1, 0.2, 0.3, 0.4, 0.5], [0, 0, 1.01, 1], [-0.1, 0, 1, 1], [0, 0, 0, 1],
                  "a box", {"x": 1}, 0.5, [0.1, None, 0.3, 0.4], ["nan"] * 4, [0, 0, float("inf"), 1]]
    )  # fmt: skip
    def test_anything_else_is_refused(self, value):
        with pytest.raises(ValueError, match="box"):
            read_box(value)


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        (["red", "dark red"], ["red", "dark red"]),
        (["1", "1", "0", "1"], ["1", "1", "0", "1"]),
        ([0, 0, 1, 0.5], [0, 0, 1, 0.5]),
        ("[0, 0, 1, 0.5]", [0, 0, 1, 0.5]),
        (["red", ""], None),
        (["red", 1], None),
        ([], None),
        ("red", None),
        (None, None),
    ],
)
def test_a_column_holds_texts_or_a_box(value, reference, tmp_path):
    found, defects = match_references([{"answers": value}], "t.json", "answers", tmp_path)
    assert found == [reference]
    assert len(defects) == (reference is None)


def coco(images, annotations):
    """A caption file: images as id -> file name, annotations as pairs of image id and caption."""
    return Captions(
        {
            "images": [{"id": i} | ({"file_name": name} if name else {}) for i, name in images.items()],
            "annotations": [{"id": n, "image_id": i, "caption": text} for n, (i, text) in enumerate(annotations)],
        },
        "captions.json",
    )


NOTES = [(2, "a bee"), (1, "a cat"), (3, "a dog"), (1, "one cat"), (2, "one bee")]


class TestCaptions:
    """Which captions belong to a record; the records below are never in the order of the file."""

    def test_the_image_is_the_files_image_whatever_the_question_id_says(self):
        captions = coco({1: "val/cat.jpg", 2: "val/bee.jpg", 3: "val/dog.jpg"}, NOTES)
        records = [
            {"question_id": 1, "image": "val/dog.jpg"},
            {"question_id": 2, "image": "val/cat.jpg"},
            {"question_id": 3, "image": "val/bee.jpg"},
        ]
        assert captions.match(records) == [["a dog"], ["a cat", "one cat"], ["a bee", "one bee"]]

    @pytest.mark.parametrize(
        ("listed", "named"),
        [
            ("cat.jpg", "Flickr30k/val/cat.jpg"),
            ("./datasets/Flickr30k/val/cat.jpg", "Flickr30k/val/cat.jpg"),
            ("Flickr30k\\val\\cat.jpg", "./Flickr30k/val/cat.jpg"),
        ],
    )
    def test_folders_may_differ(self, listed, named):
        captions = coco({1: listed, 2: "bee.jpg"}, NOTES[:2])
        assert captions.match([{"image": named}]) == [["a cat"]]

    def test_the_same_name_in_two_folders_needs_the_folder(self):
        captions = coco({1: "a/1.jpg", 2: "b/1.jpg"}, NOTES[:2])
        assert captions.match([{"image": "b/1.jpg"}, {"image": "a/1.jpg"}]) == [["a bee"], ["a cat"]]
        assert captions.match([{"image": "c/1.jpg"}]) == [None]

    def test_one_image_with_two_ids_is_nobodys(self):
        captions = coco({1: "a.jpg", 2: "a.jpg"}, NOTES[:2])
        assert captions.match([{"image": "a.jpg"}]) == [None]

    def test_several_records_of_an_image_share_its_captions(self):
        captions = coco({1: "a.jpg"}, NOTES[1:2])
        assert captions.match([{"image": "a.jpg"}, {"image": "a.jpg"}]) == [["a cat"], ["a cat"]]

    @pytest.mark.parametrize(
        "name",
        [
            lambda i: {"image_id": i, "question_id": 9, "image": "x.jpg"},
            lambda i: {"question_id": i, "image": "x.jpg"},
            lambda i: {"question_id": str(i), "image": "x.jpg"},
            lambda i: {"question_id": f"q{i}", "image": f"val/{i}.jpg"},
            lambda i: {"question_id": f"q{i}", "image": f"COCO_val2014_{i:012d}.jpg"},
        ],
        ids=["image_id", "question_id", "question_id as text", "number", "number of COCO"],
    )
    @pytest.mark.parametrize("listed", [{}, {1: None, 2: None, 3: None}], ids=["no images", "images without names"])
    def test_without_file_names_an_id_serves(self, name, listed):
        assert coco(listed, NOTES).match([name(3), name(1), name(2)]) == [
            ["a dog"], ["a cat", "one cat"], ["a bee", "one bee"]
        ]  # fmt: skip

    def test_questions_counted_from_zero_and_images_from_one_are_not_taken_for_the_same(self):
        """By question id all but one record would have the captions of its neighbor; by position nobody would notice."""
        images = {1: "cat.jpg", 2: "bee.jpg", 3: "dog.jpg"}
        records = [{"question_id": i, "image": name} for i, name in enumerate(images.values())]
        assert coco(images, NOTES).match(records) == [["a cat", "one cat"], ["a bee", "one bee"], ["a dog"]]
        assert None in coco({}, NOTES).match(records)

    def test_ids_may_be_texts(self):
        captions = coco({"1": "cat.jpg"}, [(1, "a cat")])
        assert captions.match([{"image": "cat.jpg"}]) == [["a cat"]]

    @pytest.mark.parametrize("content", [[], {}, {"images": []}, {"annotations": {}}, None])
    def test_another_file_is_refused(self, content):
        with pytest.raises(BrokenFile, match=r"captions\.json.*annotations"):
            Captions(content, "captions.json")
