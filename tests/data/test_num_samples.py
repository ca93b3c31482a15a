"""``num_samples`` of an entry: the same records are drawn at every reading, and none is on both sides of ``val_size``."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from llamafactory.hparams import DataArguments

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.named import ForTest
from fcit_plugin.data.raw_files import TrainFiles
from fcit_plugin.data.reading import used_records
from fcit_plugin.errors import FcitError

COUNT = 40
MODEL_ARGS = SimpleNamespace(cache_dir=None, hf_hub_token=None)


@pytest.fixture
def folder(tmp_path):
    """Numbered records, in a file and in two files of a folder."""
    records = [{"instruction": f"q{i}", "input": "", "output": f"a{i}", "site": i % 7} for i in range(COUNT)]
    (tmp_path / "mine.json").write_text(json.dumps(records))
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.json").write_text(json.dumps(records))
    return tmp_path


def catalogue_of(folder, held_out=0.0, file="mine.json", **entry):
    (folder / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": file, **entry}}))
    return Catalogue(str(folder), held_out=held_out)


def numbers(catalogue, name, seed=42, most=None):
    """The records that a run reads, in their order."""
    training = SimpleNamespace(seed=seed, local_process_index=0, dataloader_num_workers=0)
    data = DataArguments(dataset_dir=catalogue.dataset_dir, max_samples=most)
    use = "sft" if isinstance(name, str) else "test"
    found = used_records(catalogue, name, use, MODEL_ARGS, data, training)
    read = [int(response[0]["content"][1:]) for response in found.rows["_response"]]
    assert list(found.kept) == read
    return read


@pytest.mark.parametrize("file", ["mine.json", "parts"])
@pytest.mark.parametrize("most", [None, 5, 100])
@pytest.mark.parametrize("wanted", [1, 12, COUNT, 100])
def test_every_reading_draws_the_same_records(wanted, most, file, folder):
    catalogue = catalogue_of(folder, file=file, num_samples=wanted)
    np.random.seed(1)
    first = numbers(catalogue, "mine", most=most)
    np.random.seed(2)
    assert numbers(catalogue, "mine", most=most) == first
    files = TrainFiles(catalogue, most)
    assert files.labels("mine") == [f"a{i}" for i in first] and files.column("mine", "site") == [i % 7 for i in first]
    assert len(first) == min(wanted, most or wanted) and set(first) <= set(range(COUNT))
    if len(first) <= COUNT:
        assert wanted > COUNT or len(set(first)) == len(first)
    elif most is None:
        assert set(first) == set(range(COUNT)), "all before any is there twice"


def test_they_are_drawn_from_all_records_and_by_the_seed(folder):
    catalogue = catalogue_of(folder, num_samples=3)
    seen = Counter(i for seed in range(60) for i in numbers(catalogue, "mine", seed, most=2))
    assert seen.total() == 120 and len(seen) > COUNT / 2


@pytest.mark.parametrize("val_size", [0.25, 5])
@pytest.mark.parametrize("wanted", [12, COUNT])
def test_no_record_is_on_both_sides(wanted, val_size, folder):
    catalogue = catalogue_of(folder, val_size, num_samples=wanted)
    train, test = numbers(catalogue, "mine"), numbers(catalogue, ForTest("mine"))
    assert not {*train} & {*test} and len({*train, *test}) == len(train) + len(test) == wanted
    assert len(test) == (val_size if val_size >= 1 else val_size * wanted)
    assert TrainFiles(catalogue).labels("mine") == [f"a{i}" for i in train]


@pytest.mark.parametrize(
    ("wanted", "held_out", "message"),
    [
        (100, 0.25, "`num_samples: 100` .* and 40 records, so that some would be there twice"),
        (4, 4, "leaves nothing to train on of the dataset mine, which has 4 records"),
        (0, 0.0, "at `num_samples.*greater than or equal to 1; fix it"),
        (-3, 0.25, "at `num_samples.*greater than or equal to 1; fix it"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wanted, held_out, message, folder):
    catalogue = catalogue_of(folder, held_out, num_samples=wanted)
    for read in (lambda: numbers(catalogue, "mine"), lambda: TrainFiles(catalogue).count("mine")):
        with pytest.raises(FcitError, match=message):
            read()


def test_a_bad_record_is_named_by_where_it_stands_in_its_file(folder):
    records = json.loads((folder / "mine.json").read_text())
    for number, record in enumerate(records):
        record["history"] = [["q", None if number == 31 else "a"]]
    (folder / "mine.json").write_text(json.dumps(records))
    columns = {"prompt": "instruction", "response": "output", "history": "history"}
    with pytest.raises(FcitError, match=r"mine\.json, record 31: a text of its history is empty|mine\.json, record 31: turn 1"):
        numbers(catalogue_of(folder, num_samples=COUNT, columns=columns), "mine")
