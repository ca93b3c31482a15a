"""``fcit-cli data prepare``: what it writes plain LLaMA-Factory reads as our own formatting reads the released files."""

import json

import pytest
import tiny
from llamafactory.data.loader import _get_merged_dataset
from llamafactory.hparams import get_train_args

from fcit_plugin.cli import main
from fcit_plugin.fcit_benchmark.benchmarks import BENCHMARKS, OTHERS
from fcit_plugin.fcit_benchmark.layout import LAYOUT
from fcit_plugin.fcit_benchmark.prepare import prepare

ALL = list(LAYOUT.values())
ARXIV = "instructions/ArxivQA/train_4w.json"
ARXIV_TEST = "instructions/ArxivQA/test_1w.json"


def read(path):
    return json.loads(path.read_text())


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["fcit-cli", "data", "prepare", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code or 0


@pytest.fixture(scope="module")
def out(small_mini, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "out"
    result = prepare(small_mini, folder, ALL)
    assert result.defects == [] and result.dropped == {}
    sizes = dict.fromkeys(LAYOUT, tiny.MINI_TRAIN) | {f"{key}_test": tiny.MINI_TEST for key in LAYOUT}
    assert result.written == sizes
    return folder


@pytest.fixture(scope="module")
def aligned(text_model, text_data, tmp_path_factory):
    """LLaMA-Factory's own reading of a dataset, up to its standard form."""

    def load(name, **changes):
        keys = tiny.recipe(text_model, text_data, tmp_path_factory.mktemp("load"), stage="sft", dataset=name, **changes)
        model_args, data_args, training_args, *_ = get_train_args(
            {key: value for key, value in keys.items() if not key.startswith("fcit_")}
        )
        return _get_merged_dataset([name], model_args, data_args, training_args, "sft")

    return load


@pytest.mark.parametrize(
    "name", [f"{key}{test}" for key in ("fcit_arxivqa", "fcit_flickr30k", "fcit_grounding") for test in ("", "_test")]
)
def test_plain_llamafactory_reads_it_as_our_formatting_reads_the_original(name, small_mini, out, aligned, monkeypatch):
    monkeypatch.setenv("FCIT_DATA_DIR", str(small_mini))
    ours = aligned(name)
    theirs = aligned(name, dataset_dir=str(out), media_dir=str(small_mini / "datasets"))
    assert len(ours) == (tiny.MINI_TEST if name.endswith("_test") else tiny.MINI_TRAIN)
    for column in ("_prompt", "_response", "_images", "_system", "_tools"):
        assert theirs[column] == ours[column], column


def test_nothing_of_ours_is_needed_to_read_it(out):
    entries = read(out / "dataset_info.json")
    assert list(entries) == [name for key in LAYOUT for name in (key, f"{key}_test")]
    assert all(entry["formatting"] == "sharegpt" and (out / entry["file_name"]).is_file() for entry in entries.values())


def test_test_records_keep_question_id_box_and_captions(small_mini, out):
    boxes = read(out / "fcit_grounding_test.json")
    originals = read(small_mini / "instructions/Grounding/test_6000.json")
    assert [(row["question_id"], row["answer_bbox"]) for row in boxes] == [
        (str(row["question_id"]), row["answer_bbox"]) for row in originals
    ]
    notes = read(small_mini / "instructions/Flickr30k-cap/val_coco_type.json")["annotations"]
    for row in read(out / "fcit_flickr30k_test.json"):
        assert row["references"] == [n["caption"] for n in notes if str(n["image_id"]) == row["question_id"]] != []


def test_a_box_in_a_text_and_captions_stand_in_for_an_answer(root, edit, tmp_path):
    def change(records):
        for record in records:
            del record["answer"]
            record["answer_bbox"] = str(record["answer_bbox"])

    edit("instructions/Grounding/test_6000.json", change)
    edit("instructions/Flickr30k-cap/val_brief.json", lambda records: [record.pop("answer") for record in records])
    prepare(root, tmp_path / "out", [LAYOUT["fcit_grounding"], LAYOUT["fcit_flickr30k"]])
    for row in read(tmp_path / "out" / "fcit_grounding_test.json"):
        assert json.loads(row["conversations"][1]["value"]) == row["answer_bbox"]
    for row in read(tmp_path / "out" / "fcit_flickr30k_test.json"):
        assert row["conversations"][1]["value"] == row["references"][0]


class TestBrokenRecords:
    @pytest.fixture
    def broken(self, root, edit):
        edit(ARXIV, lambda records: (records[2].pop("image"), records[3]["conversations"].pop()))
        edit(ARXIV_TEST, lambda records: records[0].update(answer=""))
        edit("instructions/Flickr30k-cap/val_coco_type.json", lambda coco: coco["annotations"][0].pop("caption"))
        return root

    LINES = (f"{ARXIV}, record 2: ", f"{ARXIV}, record 3: ", f"{ARXIV_TEST}, record 0: ", "val_coco_type.json, record 0: ")

    def test_all_are_listed_and_nothing_is_written(self, broken, tmp_path, monkeypatch, capsys):
        assert run(monkeypatch, "--root", broken, "--out", tmp_path / "out") == 1
        shown = capsys.readouterr().out
        assert all(line in shown for line in self.LINES)
        assert "4 defects; fix them, or leave them out with --drop-broken. Nothing was written." in shown
        assert [path.name for path in tmp_path.iterdir()] == ["root"]

    def test_dropping_them_says_how_many_and_which(self, broken, tmp_path, monkeypatch, capsys):
        assert run(monkeypatch, "--root", broken, "--out", tmp_path / "out", "--drop-broken") == 0
        shown = capsys.readouterr().out
        assert all(line in shown for line in self.LINES)
        assert f"Left out 2 of {ARXIV}: 2, 3." in shown and f"Left out 1 of {ARXIV_TEST}: 0." in shown
        originals = read(broken / ARXIV)
        assert [row["images"] for row in read(tmp_path / "out" / "fcit_arxivqa.json")] == [[r["image"]] for r in originals[:2]]
        assert len(read(tmp_path / "out" / "fcit_arxivqa_test.json")) == tiny.MINI_TEST - 1
        captions = read(tmp_path / "out" / "fcit_flickr30k_test.json")
        assert [len(row["references"]) for row in captions] == [4, 5, 5]

    def test_a_file_that_cannot_be_read_is_not_dropped(self, root, tmp_path, monkeypatch, capsys):
        (root / ARXIV).write_text("[")
        assert run(monkeypatch, "--root", root, "--out", tmp_path / "out", "--drop-broken") == 1
        assert "fix or fetch the files above. Nothing was written." in capsys.readouterr().out
        assert not (tmp_path / "out").exists()

    def test_a_missing_image_is_a_broken_record(self, root, tmp_path):
        (root / "datasets" / read(root / ARXIV)[1]["image"]).unlink()
        result = prepare(root, tmp_path / "out", [LAYOUT["fcit_arxivqa"]], drop_broken=True)
        assert result.dropped == {ARXIV: [1]}
        assert result.written == {"fcit_arxivqa": tiny.MINI_TRAIN - 1, "fcit_arxivqa_test": tiny.MINI_TEST}


def test_a_folder_with_something_in_it_is_not_touched(small_mini, tmp_path, monkeypatch):
    (tmp_path / "mine").touch()
    assert "is not empty" in run(monkeypatch, "--root", small_mini, "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_way_to_use_it_is_shown(small_mini, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert run(monkeypatch, "--root", small_mini, "--out", out, "--datasets", "fcit_dvqa") == 0
    shown = capsys.readouterr().out
    assert f"dataset_dir: {out}" in shown and f"media_dir: {small_mini / 'datasets'}" in shown
    assert list(read(out / "dataset_info.json")) == ["fcit_dvqa", "fcit_dvqa_test"]


@pytest.mark.parametrize(
    ("benchmark", "layout"), [(known, layout) for known in OTHERS.values() for layout in known.datasets], ids=lambda part: ""
)
def test_a_dataset_of_another_benchmark_is_refused_in_a_sentence(benchmark, layout, small_mini, tmp_path, monkeypatch):
    """Also where its files are there, so that it is not for their absence."""
    for file in (layout.train_path, layout.test_path):
        (tmp_path / "root" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / file).write_text(json.dumps([{"prompt": "a", "answer": "b", "instruction": "a", "output": "b"}]))
    for root in (small_mini, tmp_path / "root"):
        for asked in (layout.key, f"fcit_arxivqa,{layout.key}"):
            told = run(monkeypatch, "--root", root, "--out", tmp_path / "out", "--datasets", asked)
            assert told.startswith(
                f"fcit-cli: `--datasets`: {layout.key} is a dataset of the benchmark {benchmark.title} and not"
            )
            assert told.endswith(".") and "`fcit_data_dir`" in told and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", LAYOUT)
def test_each_dataset_of_fcit_is_converted_alone(name, small_mini, tmp_path, monkeypatch):
    assert run(monkeypatch, "--root", small_mini, "--out", tmp_path / "out", "--datasets", name) == 0
    assert list(read(tmp_path / "out" / "dataset_info.json")) == [name, f"{name}_test"]


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_verify_takes_the_datasets_of_its_benchmark_and_names_the_one_to_give_for_others(benchmark, tmp_path, monkeypatch):
    for other in BENCHMARKS.values():
        for layout in other.datasets:
            arguments = ["--root", tmp_path, "--benchmark", benchmark, "--datasets", layout.key]
            monkeypatch.setattr("sys.argv", ["fcit-cli", "data", "verify", *map(str, arguments)])
            with pytest.raises(SystemExit) as caught:
                main()
            if other.name == benchmark:
                assert caught.value.code == 1, "no file of it is there"
            else:
                assert f"give `--benchmark {other.name}`" in caught.value.code
