"""``fcit-cli data convert``: what others' files become, and that whatever is wrong with them is one sentence that names it."""

import json
import re
from collections import Counter

import clones
import pytest

from fcit_plugin.cli import main
from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.raw_files import TrainFiles
from fcit_plugin.errors import FcitError
from fcit_plugin.fcit_benchmark import fedllm, text15
from fcit_plugin.fcit_benchmark.benchmarks import choose
from fcit_plugin.fcit_benchmark.others import TEXT15
from fcit_plugin.fcit_benchmark.verify import verify
from fcit_plugin.scenario import Partition, get_scenario
from fcit_plugin.scenario.partition import PartitionOptions

CONVERT = {"text15": text15.convert, "fedllm": fedllm.convert}


@pytest.fixture
def clone(tmp_path):
    """A clone of each, by name."""
    clients = {"ann": 3, "ben": 1, "7": 2}
    return {
        "text15": clones.o_lora(tmp_path / "O-LoRA"),
        "fedllm": clones.fedllm(tmp_path / "FedLLM-Bench", clients),
    }


def read(path):
    return json.loads(path.read_text())


def test_a_prompt_has_task_dataset_instruction_options_and_sentence(clone, tmp_path):
    """Letter by letter as O-LoRA's loader and collator put it, but for the texts, which are the clone's."""
    text15.convert(clone["text15"], tmp_path / "out")
    first = {name: read(tmp_path / "out" / name / "train.json")[0] for name in ("yelp", "CB", "COPA", "QQP")}
    assert first == {
        "yelp": {
            "instruction": "Task:SC\nDataset:yelp\nWhich SC?\nOption: up, down \ntrain 0 of yelp.\nAnswer:",
            "input": "",
            "output": "up",
        },
        "CB": {
            "instruction": "Task:NLI\nDataset:CB\nWhich NLI?\nOption: up, down \ntrain 0 of CB.\nAnswer:",
            "input": "",
            "output": "up",
        },
        "COPA": {"instruction": "Task:COPA\nDataset:COPA\ntrain 0 of COPA.\nAnswer:", "input": "", "output": "up"},
        "QQP": {
            "instruction": "Task:QQP\nDataset:QQP\nWhich QQP?\nOption: up, down \ntrain 0 of QQP.\nAnswer:",
            "input": "",
            "output": "up",
        },
    }


def test_what_is_converted_is_green_and_every_folder_of_the_clone_is(clone, tmp_path):
    done = text15.convert(clone["text15"], tmp_path / "out")
    report = verify(tmp_path / "out", choose(None, "text15"))
    assert report.green and len(report.datasets) == 15
    assert {layout.folder: text15.kind_of(layout) for layout in TEXT15} == {
        name: kind for kind, names in clones.FOLDERS.items() for name in names
    }
    assert done.written == {f"{layout.folder}/{part}.json": 3 for layout in TEXT15 for part in ("train", "test")}


def test_a_label_on_which_people_did_not_agree_stays_in_the_test_and_is_told(clone, tmp_path):
    folder = clone["text15"] / "CL_Benchmark" / "NLI" / "MNLI"
    clones.dump(folder / "test.json", [{"sentence": "a", "label": "-"}, {"sentence": "b", "label": "up"}])
    done = text15.convert(clone["text15"], tmp_path / "out", "text15_mnli")
    (note,) = done.notes
    assert f"{folder / 'test.json'}: 1 of 2 records have the label `-`" in note
    assert [row["output"] for row in read(tmp_path / "out" / "MNLI" / "test.json")] == ["-", "up"]
    clones.dump(folder / "train.json", [{"sentence": "a", "label": "-"}])
    with pytest.raises(
        FcitError, match=r"train\.json, record 0: its `label` '-' is none of those in .*labels\.json \(up, down\)"
    ):
        text15.convert(clone["text15"], tmp_path / "out2", "text15_mnli")


def test_clients_are_those_of_the_file_by_the_natural_partition(clone, tmp_path):
    done = fedllm.convert(clone["fedllm"], tmp_path / "out")
    assert list(done.written) == [
        *("fedllm_aya.json", "fedllm_aya_test.json", "fedllm_chatbot_it.json", "fedllm_wildchat.json"),
        *("fedllm_wildchat_turns.json", "fedllm_chatbot_pa.json"),
    ]
    for name in fedllm.FEDLLM:
        assert Counter(row["client"] for row in read(tmp_path / "out" / f"{name}.json")) == {
            f"{name} ann": 3,
            f"{name} ben": 1,
            f"{name} 7": 2,
        }
        use = "rm" if name == "fedllm_chatbot_pa" else "sft"
        source = TrainFiles(Catalogue(str(tmp_path / "out")), use=use)
        options = PartitionOptions(3, "natural", 1.0, min_samples=1, column="client")
        parts = Partition(get_scenario("custom", [[name]]), source, options, seed=0).parts(0)
        assert [len(part) for part in parts] == [2, 3, 1], "in the order of their names"
    Catalogue(str(tmp_path / "out")).check(["fedllm_aya"], with_test=True)
    assert [row["output"] for row in read(tmp_path / "out" / "fedllm_aya_test.json")] == ["That.", "Cela."]


@pytest.mark.parametrize(
    ("speakers", "kept"),
    [
        ("human gpt", "human gpt"),
        ("human gpt human", "human gpt"),
        ("gpt human gpt", "human gpt"),
        ("gpt human gpt human", "human gpt"),
        ("human", ""),
        ("gpt", ""),
        ("", ""),
    ],
)
def test_a_conversation_begins_with_a_question_and_ends_with_an_answer(speakers, kept, clone, tmp_path):
    turns = [{"from": speaker, "value": str(i)} for i, speaker in enumerate(speakers.split())]
    dataset = fedllm.FEDLLM["fedllm_wildchat_turns"]
    clones.dump(clone["fedllm"] / dataset.file, {"a": [{"conversations": turns}]})
    fedllm.convert(clone["fedllm"], tmp_path / "out", "fedllm_wildchat_turns")
    (row,) = read(tmp_path / "out" / "fedllm_wildchat_turns.json")
    assert [turn["from"] for turn in row["conversations"]] == kept.split()


TRAIN, LABELS, ASKS = "CL_Benchmark/SC/yelp/train.json", "CL_Benchmark/SC/yelp/labels.json", "configs/instruction_config.json"
AYA, PAIRS, TURNS = (fedllm.FEDLLM[f"fedllm_{name}"].file for name in ("aya", "chatbot_pa", "wildchat_turns"))
GOOD = {"sentence": "a", "label": "up"}
#: benchmark, file, what stands in it (None: nothing is there; bytes: as they are), words of the sentence beside the file
WRONG = [
    ("text15", TRAIN, None, "cannot be read (No such file or directory)"),
    ("text15", TRAIN, b"", "not valid JSON"),
    ("text15", TRAIN, b"[{", "not valid JSON"),
    ("text15", TRAIN, b"\xff", "not valid JSON"),
    ("text15", TRAIN, b"[" * 100_000, "nested too deeply"),
    ("text15", TRAIN, {"a": GOOD}, "valid list"),
    ("text15", TRAIN, [], "at least 1 item"),
    ("text15", TRAIN, [GOOD, "b"], "at `1`"),
    ("text15", TRAIN, [GOOD, {"label": "up"}], "at `1.sentence`"),
    ("text15", TRAIN, [GOOD, {"sentence": "a"}], "at `1.label`"),
    ("text15", TRAIN, [GOOD, {"sentence": 3, "label": "up"}], "at `1.sentence`"),
    ("text15", TRAIN, [GOOD, {"sentence": None, "label": "up"}], "at `1.sentence`"),
    ("text15", TRAIN, [GOOD, {"sentence": "a", "label": True}], "at `1.label`"),
    ("text15", TRAIN, [GOOD, {"sentence": "a", "label": ["up"]}], "at `1.label`"),
    ("text15", TRAIN, [GOOD, {"sentence": "a" * 1_000_001, "label": "up"}], "at `1.sentence`"),
    ("text15", TRAIN, [GOOD, {"sentence": " \n", "label": "up"}], "record 1: its `sentence` is empty"),
    ("text15", TRAIN, [GOOD, {"sentence": "a", "label": "left"}], "record 1: its `label` 'left' is none of"),
    ("text15", TRAIN, [GOOD, {"sentence": "a", "label": ""}], "record 1: its `label` '' is none of"),
    ("text15", TRAIN, [GOOD, {"sentence": "a", "label": "-"}], "record 1: its `label` '-' is none of"),
    ("text15", LABELS, None, "cannot be read"),
    ("text15", LABELS, [], "at least 1 item"),
    ("text15", LABELS, {"up": 1}, "valid list"),
    ("text15", LABELS, ["up", 3], "at `1`"),
    ("text15", LABELS, ["left"], "record 0: its `label` 'up' is none of"),
    ("text15", ASKS, None, "cannot be read"),
    ("text15", ASKS, [], "valid dictionary"),
    ("text15", ASKS, {}, "no instruction of the type zero-shot for `SC`"),
    ("text15", ASKS, {"SC": []}, "no instruction of the type zero-shot for `SC`"),
    ("text15", ASKS, {"SC": [{"instruction_type": "few-shot", "instruction": "a"}]}, "no instruction of the type zero-shot"),
    ("text15", ASKS, {"SC": [{"instruction_type": "zero-shot"}]}, "at `SC.0.instruction`"),
    ("text15", ASKS, {"SC": "a"}, "at `SC`"),
    ("fedllm", AYA, None, "cannot be read"),
    ("fedllm", AYA, b"{", "not valid JSON"),
    ("fedllm", AYA, {}, "at least 1 item"),
    ("fedllm", AYA, [], "valid dictionary"),
    ("fedllm", AYA, {"ann": []}, "at `ann`"),
    ("fedllm", AYA, {"ann": {"instruction": "a", "response": "b"}}, "at `ann`"),
    ("fedllm", AYA, {"ann": ["a"]}, "at `ann.0`"),
    ("fedllm", AYA, {"ann": [{"instruction": "a"}]}, "at `ann.0.response`"),
    ("fedllm", AYA, {"ann": [{"instruction": ["a"], "response": "b"}]}, "at `ann.0.instruction`"),
    ("fedllm", AYA, {"ann": [{"instruction": "a", "response": "b" * 1_000_001}]}, "at `ann.0.response`"),
    ("fedllm", PAIRS, {"ann": [{"prompt": "a", "chosen": "b"}]}, "at `ann.0.rejected`"),
    ("fedllm", TURNS, {"ann": [{"conversations": [{"from": "user", "value": "a"}]}]}, "at `ann.0.conversations.0.from`"),
    ("fedllm", TURNS, {"ann": [{"conversations": [{"from": "gpt"}]}]}, "at `ann.0.conversations.0.value`"),
    ("fedllm", TURNS, {"ann": [{"conversations": "a"}]}, "at `ann.0.conversations`"),
    ("fedllm", fedllm.TESTS, None, "cannot be read"),
    ("fedllm", fedllm.TESTS, {}, "has no questions"),
    ("fedllm", fedllm.TESTS, {"English": []}, "has no questions"),
    ("fedllm", fedllm.TESTS, {"English": [{"instruction": "a"}]}, "at `English.0.reference`"),
]


@pytest.mark.parametrize(("name", "file", "content", "words"), WRONG)
def test_whatever_is_wrong_with_a_file_is_one_sentence_that_names_it(name, file, content, words, clone, tmp_path):
    path = clone[name] / file
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        clones.dump(path, content)
    with pytest.raises(FcitError, match=re.escape(words)) as caught:
        CONVERT[name](clone[name], tmp_path / "out")
    said = str(caught.value)
    assert str(path) in said and "\n" not in said and said.endswith(".")
    assert not list(tmp_path.glob("*out*")), "all or nothing"


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["fcit-cli", "data", "convert", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("text15", ["--datasets", "text15_yelb"], "Text-15 has no dataset `text15_yelb`"),
        ("text15", ["--datasets", "trace_fomc"], "Text-15 has no dataset `trace_fomc`"),
        ("text15", ["--datasets", ""], "Text-15 has no dataset ``"),
        ("fedllm", ["--datasets", "aya"], "FedLLM-Bench has no dataset `aya`"),
        ("text15", ["--from", "nowhere"], "There is no folder nowhere (--from); name your clone of O-LoRA"),
        ("fedllm", ["--from", "nowhere"], "There is no folder nowhere (--from); name your clone of FedLLM-Bench"),
        ("fedllm", ["--out", "FedLLM-Bench"], "is not empty; name a new folder"),
    ],
)
def test_what_is_asked_for_wrongly_is_said_in_a_sentence(name, words, message, clone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = run(monkeypatch, "--benchmark", name, "--from", clone[name], "--out", "out", *words)
    assert message in said and "\n" not in said


def test_it_says_what_was_written_and_what_a_recipe_needs(clone, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    words = ["--from", clone["fedllm"], "--out", out, "--datasets", "fedllm_aya,fedllm_wildchat"]
    assert not run(monkeypatch, "--benchmark", "fedllm", *words)
    shown = capsys.readouterr().out
    assert f"{out / 'fedllm_aya.json'}: 6 records\n{out / 'fedllm_aya_test.json'}: 2 records" in shown
    assert "fedllm_wildchat has no answers to compare with; `val_size: 0.1`" in shown
    assert f"  dataset_dir: {out}\n  fcit_partition: natural\n  fcit_partition_column: client\n" in shown
    assert "FedLLM-Bench (2455679), not verified against the data." in shown
    assert sorted(read(out / "dataset_info.json")) == ["fedllm_aya", "fedllm_aya_test", "fedllm_wildchat"]
