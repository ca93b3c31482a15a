"""The benchmarks of others: entries, settings, what is checked of their files, and the stand-ins for their data."""

import json
import re

import pytest
from runs import ROOT

from fcit_plugin.cli import main
from fcit_plugin.data.catalogue import Catalogue, own_datasets
from fcit_plugin.errors import FcitError
from fcit_plugin.evaluation.metrics import score
from fcit_plugin.fcit_benchmark.benchmarks import BENCHMARKS, OTHERS, benchmark_of, choose
from fcit_plugin.fcit_benchmark.verify import verify
from fcit_plugin.samples.standin import LIKE, write_standin
from fcit_plugin.scenario import get_scenario

#: Their tasks in the order of their code, written down by hand.
ORDERS = {
    "ucit": "imagenet_r arxivqa vizwiz iconqa clevr_math flickr30k",
    "trace": "cstance fomc meetingbank py150 scienceqa numglue_cm numglue_ds 20minuten",
    "coin": "scienceqa textvqa imagenet gqa vizwiz grounding vqav2 ocrvqa",
    "coin6": "scienceqa textvqa imagenet gqa vqav2 ocrvqa",
    "coin_long10": "docvqa okvqa chartqa pathvqa aokvqa infovqa iconqa vizwiz clevr_math ai2d",
    "mllm_dcl": "rs med ad sci fin",
    "text15": "yelp amazon mnli cb copa qqp rte imdb sst2 dbpedia agnews yahoo multirc boolqa wic",
}


#: How the answers of each are scored, written down by hand from their code, in the order of the tasks.
METRICS = {
    "ucit": "exact_match exact_match caption exact_match exact_match caption",
    "trace": "exact_match exact_match rouge_l code_similarity option_letter exact_match exact_match sari",
    "coin": "option_letter exact_match exact_match exact_match exact_match iou exact_match exact_match",
    "coin6": "exact_match contains exact_match contains contains contains",
    "coin_long10": "contains contains contains contains contains contains exact_match contains contains exact_match",
    "mllm_dcl": "contains_word contains contains_word exact_match match_without_spaces",
    "text15": " ".join(["normalized_match"] * 15),
}


@pytest.mark.parametrize("name", METRICS)
def test_its_answers_are_scored_as_in_its_code(name):
    assert [layout.metric for layout in BENCHMARKS[name].datasets] == METRICS[name].split()


@pytest.fixture(scope="module", params=OTHERS)
def standin(request, tmp_path_factory):
    """A benchmark's name and the root of its stand-in; not to be changed."""
    root = tmp_path_factory.mktemp("standin") / request.param
    write_standin(root, request.param, train=6, test=3)
    return request.param, root


def test_the_shipped_entries_are_those_of_the_layouts():
    entries = {}
    for benchmark in BENCHMARKS.values():
        for layout in benchmark.datasets:
            entries |= layout.entries()
    assert own_datasets() == entries, "python tools/dataset_info.py"
    assert list(own_datasets()) == list(entries)


def test_each_benchmark_names_its_source_and_every_dataset_where_it_is_available():
    assert set(LIKE) == {layout.key for benchmark in OTHERS.values() for layout in benchmark.datasets}
    for benchmark in BENCHMARKS.values():
        assert re.fullmatch("[0-9a-f]{7}", benchmark.commit)
        for layout in benchmark.datasets:
            assert benchmark_of(layout.key) is benchmark_of(f"{layout.key}_test") is benchmark
            assert layout.images_from or layout.is_text
            assert benchmark.name == "fcit" or layout.records_from.startswith("https://")


@pytest.mark.parametrize("name", ORDERS)
def test_its_setting_has_its_datasets_one_after_another(name):
    scenario = get_scenario(name)
    assert [task.name for task in scenario.tasks] == ORDERS[name].split()
    assert [scenario.datasets_of_stage(t) for t in range(scenario.num_stages)] == [
        (f"{name}_{task}",) for task in ORDERS[name].split()
    ]
    backwards = get_scenario(name, task_order=ORDERS[name].split()[::-1])
    assert backwards.schedule == scenario.schedule[::-1]
    with pytest.raises(FcitError, match=r"fcit_task_order must be paper, or a list of these names"):
        get_scenario(name, task_order="research_code")


def test_its_stand_in_is_green(standin, monkeypatch, capsys):
    name, root = standin
    arguments = ["data", "verify", "--benchmark", name, "--root", str(root), "--images", "all"]
    monkeypatch.setattr("sys.argv", ["fcit-cli", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    shown = capsys.readouterr().out
    assert f"{BENCHMARKS[name].title} benchmark in {root}" in shown
    assert f"All green: {len(BENCHMARKS[name].datasets)} datasets" in shown
    assert f"{BENCHMARKS[name].code} ({BENCHMARKS[name].commit}), not verified against the data" in shown


def test_its_stand_in_scores_full_marks_with_its_own_answers(standin):
    name, root = standin
    catalogue = Catalogue(str(root), data_root=str(root))
    for report in verify(root, choose(None, name), "none").datasets:
        catalogue.check([report.layout.key], with_test=True)
        answers = [
            reference or str(record[report.layout.columns[1]])
            for record, reference in zip(report.test.records, report.test.references, strict=True)
        ]
        said = [str(a) if isinstance(a, str) or isinstance(a[0], float) else a[0] for a in answers]
        asked = [str(record.get(report.layout.columns[0])) for record in report.test.records]
        assert score(catalogue.metrics(report.layout.key).main, said, answers, asked) == 100


def test_a_missing_file_is_named_with_where_it_is_available(standin, tmp_path):
    name, _ = standin
    first = BENCHMARKS[name].datasets[0]
    with pytest.raises(FcitError, match=re.escape(f"root of {BENCHMARKS[name].title} (the folder with {first.train_path})")):
        Catalogue(str(tmp_path), data_root=str(tmp_path)).check([first.key], with_test=False)
    report = verify(tmp_path, [first])
    how = "write it from the records of" if name == "coin_long10" else "get it from"
    assert all(defect.remedy.startswith(f"{how} {first.records_from}") for defect in report.defects)
    with pytest.raises(FcitError, match=rf"\); {how} {re.escape(first.records_from)}"):
        Catalogue(str(tmp_path), data_root=str(tmp_path)).check([first.key], with_test=False)


#: benchmark, file below its stand-in, change of the second record, kind and words of the defect; None if it is none
CHANGES = [
    ("trace", "FOMC/train.json", {"answer": ""}, ("no answer", "it has no `answer`")),
    ("trace", "FOMC/test.json", {"prompt": None}, ("no text", "it has no `prompt`")),
    ("trace", "FOMC/test.json", {"answer": 3}, ("no answer", "it has no `answer`")),
    ("text15", "SST-2/train.json", {"output": ""}, ("no answer", "it has no `output`")),
    ("text15", "SST-2/test.json", {"instruction": ["a"]}, ("no text", "it has no `instruction`")),
    ("coin", "Instructions_Original/ScienceQA/train.json", {"image": None}, None),
    ("coin", "Instructions_Original/ScienceQA/test.json", {"image": None}, None),
    ("coin", "Instructions_Original/TextVQA/train.json", {"image": None}, ("no image", "it names no `image`")),
    ("coin", "Instructions_Original/GQA/train.json", {"image": "GQA/images/x.png"}, ("missing image", "cl_dataset/GQA")),
    ("mllm_dcl", "Med/train.json", {"image": "images/x.png"}, ("missing image", "its image Med/images/x.png")),
]


@pytest.mark.parametrize(("name", "file", "change", "expected"), CHANGES)
def test_a_defect_is_told_by_file_and_record(name, file, change, expected, tmp_path):
    write_standin(tmp_path / "root", name, train=4, test=3)
    path = tmp_path / "root" / file
    records = json.loads(path.read_text())
    records[1] |= change
    path.write_text(json.dumps(records))
    defects = [d for d in verify(tmp_path / "root", choose(None, name), "all").defects if d.kind != "mixed types"]
    if expected is None:
        assert not defects
    else:
        (defect,) = defects
        assert (defect.kind, defect.file, defect.record) == (expected[0], file, 1)
        assert expected[1] in defect.problem


def test_the_documents_name_each_source():
    page = (ROOT / "docs" / "guide" / "benchmarks.md").read_text()
    for name, benchmark in OTHERS.items():
        assert f"{benchmark.code}/tree/{benchmark.commit}" in page
        assert f"`fcit_setting: {name}`" in page
