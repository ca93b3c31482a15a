"""``fcit-cli data verify``: green on FCIT-mini, and each kind of defect is named with file and record."""

import copy
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny import MINI_TEST as TEST
from tiny import MINI_TRAIN as TRAIN

from fcit_plugin.cli import main
from fcit_plugin.errors import printable
from fcit_plugin.fcit_benchmark.layout import LAYOUT
from fcit_plugin.fcit_benchmark.verify import verify

ARXIV = "instructions/ArxivQA/train_4w.json"
ARXIV_TEST = "instructions/ArxivQA/test_1w.json"
GROUNDING_TEST = "instructions/Grounding/test_6000.json"
FLICKR_TEST = "instructions/Flickr30k-cap/val_brief.json"
CAPTIONS = "instructions/Flickr30k-cap/val_coco_type.json"


def found(root, keys="fcit_arxivqa,fcit_grounding,fcit_flickr30k", images="all"):
    return verify(root, [LAYOUT[key] for key in keys.split(",")], images)


def image_of(root, file, record):
    return root / "datasets" / json.loads((root / file).read_text())[record]["image"]


@pytest.mark.parametrize("images", ["all", "first", "none"])
def test_fcit_mini_is_green(small_mini, images):
    report = verify(small_mini, list(LAYOUT.values()), images)
    assert report.green, report.defects
    assert len(report.datasets) == 12
    for dataset in report.datasets:
        assert (len(dataset.train.records), len(dataset.test.records)) == (TRAIN, TEST)
        assert dataset.images == TRAIN + TEST
        assert dataset.images_found == (None if images == "none" else TRAIN + TEST)


def put(key, value):
    return lambda record: record.__setitem__(key, value)


def take(key):
    return lambda record: record.pop(key)


def turn(number, key, value):
    return lambda record: record["conversations"][number].__setitem__(key, value)


#: file, index of the record that is changed, the change, kind and words of the one defect
RECORDS = {
    "role": (ARXIV, 2, turn(1, "from", "human"), "roles", "human, human and not human, gpt"),
    "odd turns": (ARXIV, 0, lambda r: r["conversations"].pop(), "roles", "its turns go human and not"),
    "no role": (ARXIV, 1, lambda r: r["conversations"][0].pop("from"), "roles", "has no role"),
    "no turns": (ARXIV, 1, put("conversations", []), "roles", "`conversations`"),
    "empty answer": (ARXIV, 3, turn(1, "value", " "), "no answer", "turn 1 (gpt) is empty"),
    "only an image tag": (ARXIV, 3, turn(0, "value", "<image>\n"), "no text", "turn 0 (human) is empty"),
    "two image tags": (ARXIV, 3, turn(0, "value", "<image><image> What?"), "image tags", "2 tags <image>"),
    "train image unnamed": (ARXIV, 1, take("image"), "no image", "names no `image`"),
    "no answer": (ARXIV_TEST, 1, take("answer"), "no answer", "has no `answer`"),
    "null answer": (ARXIV_TEST, 1, put("answer", None), "no answer", "has no `answer`"),
    "blank answer": (ARXIV_TEST, 1, put("answer", ""), "no answer", "has no `answer`"),
    "no text": (ARXIV_TEST, 0, take("text"), "no text", "has no `text`"),
    "no question_id": (ARXIV_TEST, 2, take("question_id"), "no question_id", "has no `question_id`"),
    "same question_id": (ARXIV_TEST, 2, put("question_id", 0), "duplicate question_id", "question_id 0 of record 0"),
    "mixed types": (ARXIV_TEST, 2, put("question_id", "c"), "mixed types", "text and that of record 0 a number"),
    "no box": (GROUNDING_TEST, 1, take("answer_bbox"), "box", "has no box"),
    "three numbers": (GROUNDING_TEST, 1, put("answer_bbox", [0.1, 0.2, 0.3]), "box", "3 numbers and not 4"),
    "beyond the image": (GROUNDING_TEST, 2, put("answer_bbox", [0.1, 0.2, 1.3, 0.4]), "box", "not within 0 and 1"),
    "pixels": (GROUNDING_TEST, 2, put("answer_bbox", [10, 20, 30, 40]), "box", "not within 0 and 1"),
    "words": (GROUNDING_TEST, 0, put("answer_bbox", ["a", "b", "c", "d"]), "box", "made of texts and not of numbers"),
    "one word": (GROUNDING_TEST, 0, put("answer_bbox", [0.1, 0.2, 0.3, "d"]), "box", "not made of numbers"),
    "corners swapped": (GROUNDING_TEST, 0, put("answer_bbox", [0.9, 0.2, 0.1, 0.4]), "box", "no area"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_broken_record_is_the_one_defect(root, edit, case):
    file, record, change, kind, words = RECORDS[case]
    edit(file, lambda records: change(records[record]))
    (defect,) = found(root).defects
    assert (defect.kind, defect.file, defect.record) == (kind, file, record)
    assert words in defect.problem
    assert f"{file}, record {record}: " in str(defect) and defect.remedy in str(defect)


def cut(root, file):
    path = root / file
    path.write_text(path.read_text()[:-30])


#: file, what happens to it, kind and words
FILES = {
    "missing train file": (ARXIV, lambda root, file: (root / file).unlink(), "missing file", "data download"),
    "missing test file": (ARXIV_TEST, lambda root, file: (root / file).unlink(), "missing file", "data download"),
    "missing captions": (CAPTIONS, lambda root, file: (root / file).unlink(), "missing file", "data download"),
    "no bytes": (ARXIV, lambda root, file: (root / file).write_text(""), "empty file", "is empty"),
    "no records": (ARXIV_TEST, lambda root, file: (root / file).write_text("[]"), "empty file", "no records"),
    "cut off": (ARXIV, cut, "invalid JSON", "cut off at line"),
    "cut in a text": (ARXIV, lambda root, file: (root / file).write_text('[{"a": "b'), "invalid JSON", "cut off at line 1"),
    "not JSON": (ARXIV, lambda root, file: (root / file).write_text("[1,\n oops]"), "invalid JSON", "line 2, column 2"),
    "no list": (ARXIV, lambda root, file: (root / file).write_text("{}"), "invalid JSON", "object and no list"),
    "no UTF-8": (ARXIV, lambda root, file: (root / file).write_bytes(b'["\xff"]'), "invalid JSON", "at byte 2"),
    "no annotations": (CAPTIONS, lambda root, file: (root / file).write_text("[]"), "captions", "`annotations`"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_broken_file_is_the_one_defect(root, case):
    file, change, kind, words = FILES[case]
    change(root, file)
    (defect,) = found(root).defects
    assert (defect.kind, defect.file, defect.record) == (kind, file, None)
    assert words in str(defect)


def test_what_is_no_record_is_named(root, edit):
    edit(ARXIV, lambda records: records.__setitem__(1, "text"))
    edit(FLICKR_TEST, lambda records: records.__setitem__(2, None))
    assert [(d.kind, d.file, d.record) for d in found(root).defects] == [
        ("no record", ARXIV, 1),
        ("no record", FLICKR_TEST, 2),
    ]


class TestImages:
    def test_a_missing_one(self, root):
        image_of(root, ARXIV, 2).unlink()
        report = found(root, "fcit_arxivqa", "first")
        (defect,) = report.defects
        assert (defect.kind, defect.file, defect.record) == ("missing image", ARXIV, 2)
        assert defect.remedy == "get the images from https://huggingface.co/datasets/MMInstruction/ArxivQA"
        assert (report.datasets[0].images, report.datasets[0].images_found) == (7, 6)

    def test_one_without_bytes(self, root):
        image_of(root, ARXIV_TEST, 1).write_bytes(b"")
        (defect,) = found(root, "fcit_arxivqa", "first").defects
        assert (defect.kind, defect.file, defect.record) == ("empty image", ARXIV_TEST, 1)

    @pytest.mark.parametrize("image", ["/etc/passwd", "../secret.png", "a/../../secret.png"])
    def test_one_that_lies_outside_is_not_opened(self, root, edit, image):
        Image.new("RGB", (2, 2)).save(root / "secret.png")
        edit(ARXIV, lambda records: put("image", image)(records[3]))
        (defect,) = found(root, "fcit_arxivqa", "all").defects
        assert (defect.kind, defect.file, defect.record) == ("image outside", ARXIV, 3)

    @pytest.mark.parametrize("suffix", ["png", "jpeg"])
    def test_one_that_is_cut_off_is_found_when_all_are_read(self, root, edit, suffix):
        whole = root / "datasets" / f"whole.{suffix}"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
        cut = root / "datasets" / f"cut.{suffix}"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        edit(ARXIV, lambda records: (put("image", whole.name)(records[2]), put("image", cut.name)(records[3])))
        (defect,) = found(root, "fcit_arxivqa", "all").defects
        assert (defect.kind, defect.file, defect.record) == ("unreadable image", ARXIV, 3)
        assert found(root, "fcit_arxivqa", "first").green

    def test_the_first_of_a_file_is_read_in_any_case(self, root):
        image_of(root, ARXIV_TEST, 0).write_bytes(b"no image")
        (defect,) = found(root, "fcit_arxivqa", "first").defects
        assert (defect.kind, defect.file, defect.record) == ("unreadable image", ARXIV_TEST, 0)
        assert found(root, "fcit_arxivqa", "none").green

    def test_a_missing_folder_is_one_defect_of_each_file(self, root):
        shutil.rmtree(root / "datasets" / "ArxivQA")
        defects = found(root, "fcit_arxivqa").defects
        assert [(d.kind, d.file, d.record) for d in defects] == [("missing images", f, None) for f in (ARXIV, ARXIV_TEST)]
        assert "the folder datasets/ArxivQA with the images of 4 records" in defects[0].problem

    def test_records_that_share_a_bad_image_are_each_named(self, root, edit):
        edit(ARXIV, lambda records: [put("image", records[0]["image"])(record) for record in records])
        image_of(root, ARXIV, 0).unlink()
        report = found(root, "fcit_arxivqa")
        assert [defect.record for defect in report.defects] == [0, 1, 2, 3]
        assert (report.datasets[0].images, report.datasets[0].images_found) == (4, 3)


class TestCaptions:
    def test_an_image_without_caption(self, root, edit):
        edit(CAPTIONS, lambda coco: coco.update(annotations=[n for n in coco["annotations"] if n["image_id"] != 1]))
        (defect,) = found(root).defects
        assert (defect.kind, defect.file, defect.record) == ("no reference", FLICKR_TEST, 1)
        assert "Flickr30k/val/" in defect.problem

    def test_an_image_that_is_not_listed(self, root, edit):
        edit(CAPTIONS, lambda coco: coco["images"].pop(2))
        (defect,) = found(root).defects
        assert (defect.kind, defect.file, defect.record) == ("no reference", FLICKR_TEST, 2)

    @pytest.mark.parametrize(("key", "words"), [("image_id", "no `image_id`"), ("caption", "no `caption`")])
    def test_an_annotation_without_image_id_or_caption(self, root, edit, key, words):
        edit(CAPTIONS, lambda coco: coco["annotations"][3].pop(key))
        (defect,) = found(root).defects
        assert (defect.kind, defect.file, defect.record) == ("captions", CAPTIONS, 3)
        assert words in defect.problem

    def test_no_answer_is_needed_beside_captions_or_a_box(self, root, edit):
        for file in (FLICKR_TEST, GROUNDING_TEST):
            edit(file, lambda records: [record.pop("answer") for record in records])
        assert found(root).green


class TestPartitions:
    @pytest.fixture
    def partitions(self, root):
        records = json.loads((root / ARXIV).read_text())
        for beta in ("0.5", "1.0"):
            folder = root / "partitioned_data" / "Task-related" / "seq" / beta / "Task2"
            folder.mkdir(parents=True)
            for client in range(50):
                (folder / f"client_{client}.json").write_text(json.dumps(records[client % 4 :][:1]))
        return root / "partitioned_data" / "Task-related" / "seq"

    def test_whole_ones_belong_to_the_data_set_of_their_images(self, root, partitions):
        report = found(root)
        assert report.green
        assert [(p.kind, p.beta, p.task, p.clients, p.records) for p in report.partitions] == [
            ("task", "0.5", "Task2", 50, 50),
            ("task", "1.0", "Task2", 50, 50),
        ]
        assert [len(dataset.partitions) for dataset in report.datasets] == [2, 0, 0]

    def test_defects_are_named(self, root, partitions):
        (partitions / "0.5" / "Task2" / "client_7.json").unlink()
        (partitions / "1.0" / "Task2" / "client_3.json").write_text("[")
        first, second = found(root).defects
        assert (first.kind, first.file) == ("missing file", "partitioned_data/Task-related/seq/0.5/Task2")
        assert "1 of 50 clients are not there (7)" in first.problem
        assert (second.kind, second.file) == ("invalid JSON", "partitioned_data/Task-related/seq/1.0/Task2/client_3.json")


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["fcit-cli", "data", "verify", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code or 0, capsys.readouterr().out


def another(record, question_id):
    return copy.deepcopy(record) | ({"question_id": question_id} if "question_id" in record else {})


class TestCommand:
    def test_green(self, small_mini, monkeypatch, capsys):
        monkeypatch.setenv("FCIT_DATA_DIR", str(small_mini))
        code, shown = run(monkeypatch, capsys, "--images", "all")
        assert code == 0
        assert all(key in shown for key in LAYOUT)
        assert f"All green: 12 datasets, {12 * (TRAIN + TEST)} records." in shown

    def test_a_copy_with_every_kind_of_defect(self, root, edit, monkeypatch, capsys, tmp_path):
        """Each defect is a line that names file and record, and an entry of the JSON report."""
        expected = set()
        for number, (file, _, change, kind, _) in enumerate(RECORDS.values()):
            target = f"instructions/{'DVQA/train.json' if file == ARXIV else 'DVQA/test.json'}"
            if file == GROUNDING_TEST:
                target = file
            records = json.loads((root / target).read_text())
            change(new := another(records[0], 100 + number))
            (root / target).write_text(json.dumps([*records, new]))
            expected.add((kind, target))
        image_of(root, ARXIV, 1).unlink()
        image_of(root, ARXIV, 2).write_bytes(b"")
        image_of(root, ARXIV, 3).write_bytes(b"x")
        cut(root, "instructions/TabMWP/train.json")
        (root / "instructions/TabMWP/test.json").write_text("")
        (root / "instructions/AOKVQA/val.json").unlink()
        shutil.rmtree(root / "datasets" / "FigureQA")
        edit(CAPTIONS, lambda coco: (coco["annotations"][0].pop("caption"), coco["images"].pop()))
        code, shown = run(monkeypatch, capsys, "--root", root, "--images", "all", "--show", 99, "--json", tmp_path / "r.json")
        assert code == 1
        report = json.loads((tmp_path / "r.json").read_text())
        assert not report["green"]
        defects = [defect for dataset in report["datasets"] for defect in dataset["defects"]]
        expected |= {
            ("missing image", ARXIV), ("empty image", ARXIV), ("unreadable image", ARXIV),
            ("invalid JSON", "instructions/TabMWP/train.json"), ("empty file", "instructions/TabMWP/test.json"),
            ("missing file", "instructions/AOKVQA/val.json"), ("missing images", "instructions/FigureQA/train.json"),
            ("missing images", "instructions/FigureQA/test.json"), ("captions", CAPTIONS), ("no reference", FLICKR_TEST),
        }  # fmt: skip
        assert {(defect["kind"], defect["file"]) for defect in defects} == expected
        lines = shown.splitlines()
        for defect in defects:
            where = defect["file"] if defect["record"] is None else f"{defect['file']}, record {defect['record']}"
            assert f"{where}: {defect['problem']}; {defect['remedy']}." in lines
        assert f"{len(defects)} defects: " in lines[-1]

    @pytest.mark.parametrize("name", ["v[/old]", "[red]", ":car:", "a\x1b[31mb", "b\\"])
    def test_names_stand_there_letter_for_letter(self, name, root, tmp_path, monkeypatch, capsys):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        odd = root.rename(tmp_path / name)
        edited = json.loads((odd / ARXIV).read_text())
        image = f"ArxivQA/images/{name.replace('/', '')}.png"
        edited[1]["image"] = image
        (odd / ARXIV).write_text(json.dumps(edited))
        _, shown = run(monkeypatch, capsys, "--root", odd, "--datasets", "fcit_arxivqa")
        assert f"FCIT benchmark in {printable(str(odd))}\n" in shown and "\x1b" not in shown
        assert f"{ARXIV}, record 1: its image datasets/{printable(image)} is not there;" in shown

    def test_many_of_a_kind_are_counted(self, root, edit, monkeypatch, capsys):
        edit(ARXIV_TEST, lambda records: [put("answer", "")(record) for record in records])
        _, shown = run(monkeypatch, capsys, "--root", root, "--show", 1)
        assert f"{ARXIV_TEST}: 2 more of the kind `no answer`" in shown

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--root", "/no/such/folder"], "fcit-cli: There is no folder /no/such/folder; name the root"),
            (["--datasets", "fcit_arxiv"], "fcit-cli: The benchmark FCIT has no dataset `fcit_arxiv`; it has fcit_imagenet_r"),
        ],
    )
    def test_what_goes_wrong_is_said_in_a_sentence(self, small_mini, arguments, sentence, monkeypatch, capsys):
        monkeypatch.setenv("FCIT_DATA_DIR", str(small_mini))
        code, _ = run(monkeypatch, capsys, *arguments)
        assert code.startswith(sentence)
