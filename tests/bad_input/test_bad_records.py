"""Bad records in every format: what LLaMA-Factory drops is left out everywhere alike, all else ends in one sentence.

LLaMA-Factory itself is the reference: what it trains on without us is what we train on, and what it cannot read, or what
nothing could be learned from or asked, is refused with dataset, file and record.
"""

import json
import logging
from types import SimpleNamespace

import datasets
import pytest
from bad_records import BAD, CONTAINERS, COUNT, FORMATTINGS, NAMES, USES
from llamafactory.data.loader import _get_merged_dataset, _get_preprocessed_dataset
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
from pairwise import pairwise
from record_defects import DEFECTS

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.forms import USES as PROCESSING
from fcit_plugin.data.named import ForTest
from fcit_plugin.data.pipeline import Pipeline
from fcit_plugin.data.raw_files import TrainFiles
from fcit_plugin.engine.open_dry_session import SamplePipeline
from fcit_plugin.errors import FcitError

BY_TITLE = {defect.title: defect for defect in DEFECTS}
AXES = {
    "defect": list(BY_TITLE),
    "formatting": FORMATTINGS,
    "container": CONTAINERS,
    "use": USES,
}


def makes_sense(case):
    return BY_TITLE[case["defect"]].fits(case["formatting"], case["use"], case["container"])


def named(cases):
    """Each case with the name of a dataset."""
    return [{**case, "name": NAMES[i % len(NAMES)]} for i, case in enumerate(cases)]


def words(case):
    return ", ".join(case.values())


def matters(pair):
    """What is wrong with a record does not depend on the kind of its file: left to the slow proof."""
    return pair.keys() != {"defect", "container"} or BY_TITLE[pair["defect"]].file is not None


PAIRS = named(pairwise(AXES, makes_sense, matters))
ALL = named(
    dict(zip(AXES, (d, f, c, u), strict=True))
    for d in BY_TITLE
    for f in FORMATTINGS
    for c in CONTAINERS
    for u in USES
    if BY_TITLE[d].fits(f, u, c)
)


@pytest.fixture(scope="module")
def tools(llava_model, image_data, tmp_path_factory):
    """LLaMA-Factory's arguments and tokenizer of the tiny LLaVA."""
    keys = {
        "model_name_or_path": str(llava_model), "stage": "sft", "do_train": True, "finetuning_type": "lora",
        "template": "llava", "dataset": "color", "dataset_dir": str(image_data), "report_to": "none",
        "output_dir": str(tmp_path_factory.mktemp("out")), "overwrite_cache": True,
    }  # fmt: skip
    model_args, data_args, training_args, *_ = get_train_args(keys)
    return SimpleNamespace(
        model_args=model_args, data_args=data_args, training_args=training_args, module=load_tokenizer(model_args)
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


class Bench:
    """One bad dataset and the ways to read it."""

    def __init__(self, case, tools, folder):
        self.defect, self.use, self.tools = BY_TITLE[case["defect"]], case["use"], tools
        self.task = case["name"]
        self.name = str(ForTest(self.task)) if self.use == "test" else self.task
        media = folder / "media"
        media.mkdir()
        self.entry = self.defect.make(case["formatting"], self.use, case["container"], folder, media)
        if self.entry is not None:
            (folder / "dataset_info.json").write_text(json.dumps({self.name: self.entry}))
        self.data_args = tools.data_args
        self.data_args.dataset_dir, self.data_args.media_dir = str(folder), str(media)
        self.catalogue = Catalogue(str(folder), media_dir=str(media))
        self.processing = PROCESSING.get(self.use, "sft")

    def plain(self):
        """Token ids that LLaMA-Factory makes without us, of the records that it takes; None if it fails."""
        training_args, test = self.tools.training_args, self.use == "test"
        training_args.predict_with_generate = test
        pipeline = self.pipeline()
        try:
            rows = _get_merged_dataset([self.name], self.tools.model_args, self.data_args, training_args, stage=self.processing)
            if self.use == "kto":  # where it drops a record, it fails over the next one, whose other answer that would be
                rows = rows.filter(lambda row: len(row["_response"]) == 2)
            found = _get_preprocessed_dataset(
                rows, self.data_args, training_args, self.processing, pipeline.template, is_eval=test, **self.tools.module
            )
        except Exception:  # whatever it is
            return None
        finally:
            training_args.predict_with_generate = False
        return found["chosen_input_ids" if self.use == "dpo" else "input_ids"][:] if len(found) else []

    def pipeline(self, kind=Pipeline, **options):
        tools = self.tools
        parts = tools.model_args, self.data_args, tools.training_args, tools.module, self.catalogue, self.processing
        return kind(*parts, **options)

    def split(self, pipeline):
        return pipeline.test(self.task) if self.use == "test" else pipeline.train(self.task)

    def sentence_of(self, read):
        """What is told when it is read; None if it can be. Any other error is a fault."""
        try:
            read()
        except FcitError as error:
            return str(error)
        return None


def check_sentence(bench, sentence):
    assert f"`{bench.name}`" in sentence or f" {bench.name} " in sentence, sentence
    assert "\n" not in sentence and sentence[-1] in ".?!)" and len(sentence) < 900, sentence
    assert bench.entry["file_name"] in sentence or "dataset_info.json" in sentence, sentence
    if bench.defect.record:
        inside = bench.entry["file_name"].endswith("träin 1")
        assert f"record {BAD}:" in sentence and (not inside or "part" in sentence), sentence


def check(case, tools, folder, caplog, monkeypatch):
    monkeypatch.setattr("fcit_plugin.engine.open_dry_session.SAMPLE", 2)
    bench = Bench(case, tools, folder)
    if bench.entry is None:
        return "cannot be written"
    try:
        bench.catalogue.check([bench.task], False, bench.use) if bench.use != "test" else bench.catalogue.check_tests(
            [bench.task]
        )
    except FcitError as error:
        check_sentence(bench, str(error))
        return "sentence"
    files = TrainFiles(bench.catalogue, use="test" if bench.use == "test" else bench.processing)
    plain = bench.plain()
    pipeline = bench.pipeline()
    with caplog.at_level(logging.WARNING):
        sentence = bench.sentence_of(lambda: bench.split(pipeline))
    told = [record.getMessage() for record in caplog.records if "are left out" in record.getMessage()]
    dry = bench.pipeline(SamplePipeline)
    dry_sentence = bench.sentence_of(lambda: bench.split(dry))
    if sentence is not None:
        check_sentence(bench, sentence)
        assert bench.defect.pixels or dry_sentence == sentence
        return "sentence"
    assert dry_sentence is None
    assert plain is not None, "LLaMA-Factory cannot read it"
    split = bench.split(pipeline)
    ids = split.features["chosen_input_ids" if bench.use == "dpo" else "input_ids"][:]
    assert ids == plain
    assert len(split) == len(split.rows) == len(split.features) == len(split.answers) == len(split.images) == len(split.kept)
    other = bench.split(dry)
    assert (list(other.kept), other.answers, other.instructions) == (list(split.kept), split.answers, split.instructions)
    assert files.count(bench.name) == len(split) and files.labels(bench.name) == split.answers
    assert files.column(bench.name, "site") == [f"s{i}" for i in split.kept]
    if bench.use != "test":
        assert pipeline.column(bench.name, "site") == files.column(bench.name, "site")
    if split.left_out == 0:
        assert not told and list(split.kept) == list(range(COUNT)) and pipeline.left_out() == {}
        return "taken"
    assert list(split.kept) == [i for i in range(COUNT) if i != BAD]
    assert pipeline.left_out() == dry.left_out() == {bench.name: 1}
    assert len(told) >= 1 and all(f"`{bench.name}`" in line and f"record {BAD}" in line for line in told)
    for strict in (bench.pipeline(strict=True), bench.pipeline(SamplePipeline, strict=True)):
        refused = bench.sentence_of(lambda strict=strict: bench.split(strict))
        check_sentence(bench, refused)
        assert "`fcit_strict_records`" in refused
    return "left out"


def check_end(case, end):
    """Where the table says how it ends, it ends so; fcit's own format leaves nothing out."""
    expected = BY_TITLE[case["defect"]].end
    if case["formatting"] == "fcit" and expected == "left out":
        expected = "sentence"
    assert expected in (None, end) or end == "cannot be written", (case, end)


@pytest.mark.parametrize("case", PAIRS, ids=words)
def test_each_pair_of_defect_format_and_use(case, tools, tmp_path, caplog, monkeypatch):
    check_end(case, check(case, tools, tmp_path, caplog, monkeypatch))


@pytest.mark.slow
@pytest.mark.parametrize("defect", list(BY_TITLE))
def test_each_defect_in_each_format_and_use(defect, tools, tmp_path, caplog, monkeypatch):
    """All of them; and a defect that cannot be anywhere is none."""
    ends = {}
    for number, case in enumerate(case for case in ALL if case["defect"] == defect):
        folder = tmp_path / str(number)
        folder.mkdir()
        caplog.clear()
        ends[words(case)] = check(case, tools, folder, caplog, monkeypatch)
        check_end(case, ends[words(case)])
    assert set(ends.values()) - {"cannot be written"}
