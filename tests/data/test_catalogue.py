"""The catalogue of datasets: the user's file is read once, and nothing of one catalogue is another's."""

import json
import sys

import pytest
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams import get_train_args

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.raw_files import TrainFiles
from fcit_plugin.data.reading import aligned_records
from fcit_plugin.engine.open_dry_session import open_dry_session
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.errors import FcitError

#: Files that this process has opened, since the hook below was put in: hooks cannot be taken out.
OPENED: list[str] = []
sys.addaudithook(lambda event, args: OPENED.append(str(args[0])) if event == "open" else None)


@pytest.mark.parametrize(("session", "keys"), [(open_session, {}), (open_dry_session, {"fcit_dry_run": True})])
def test_a_run_reads_the_users_file_once_for_all_its_data_sets(session, keys, text_recipe, text_data):
    arguments = get_train_args(text_recipe(**keys))
    OPENED.clear()
    made = session(*arguments)
    made.local().partition.parts(0)
    assert OPENED.count(str(text_data / "dataset_info.json")) == 1


def test_two_catalogues_have_their_own_roots_whatever_the_environment_says(roots, text_recipe, monkeypatch):
    monkeypatch.setenv("FCIT_DATA_DIR", "/no/such/root")
    model_args, data_args, training_args, *_ = get_train_args(text_recipe())
    pair = [Catalogue(data_args.dataset_dir, str(root)) for root in roots]
    assert [catalogue.root("fcit_arxivqa") for catalogue in pair] == list(roots)
    assert [catalogue.media_root("fcit_arxivqa") for catalogue in pair] == [str(root / "datasets") for root in roots]
    for catalogue, root, count in zip((*pair, pair[0]), (*roots, roots[0]), (1, 2, 1), strict=True):
        found = aligned_records(catalogue, "fcit_arxivqa", model_args, data_args, training_args)
        assert [image.startswith(f"{root}/datasets/") for image, *_ in found["_images"]] == [True] * count


def test_a_recipe_without_a_root_takes_the_environments_when_it_is_asked_for(tmp_path, monkeypatch):
    catalogue = Catalogue("data")
    for name in ("one", "two"):
        monkeypatch.setenv("FCIT_DATA_DIR", str(tmp_path / name))
        assert catalogue.root("fcit_arxivqa") == tmp_path / name


def test_what_is_the_users_is_in_the_users_folders_and_goes_before_ours(tmp_path):
    mine = {"file_name": "mine.json"}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"fcit_arxivqa": mine}))
    catalogue = Catalogue(str(tmp_path), "/benchmark", "/images")
    assert catalogue.entry("fcit_arxivqa") == mine and catalogue.is_users("fcit_arxivqa")
    assert (catalogue.root("fcit_arxivqa"), catalogue.media_root("fcit_arxivqa")) == (tmp_path, "/images")
    assert "fcit_dvqa" in catalogue and not catalogue.is_users("fcit_dvqa") and "mine" not in catalogue


def test_entries_may_stand_in_place_of_their_folder():
    entries = {"mine": {"hf_hub_url": "someone/something"}}
    catalogue = Catalogue(entries)
    catalogue.check(["mine"], with_test=False)
    with pytest.raises(ValueError, match=r"`mein`: .* entries given as `dataset_dir`; the nearest known one is `mine`"):
        catalogue.entry("mein")
    found = get_dataset_list(["fcit_arxivqa", "mine", "fcit_dvqa"], entries)
    assert [one.load_from for one in found] == ["file", "hf_hub", "file"]
    assert [one.formatting for one in found] == ["fcit", "alpaca", "fcit"]


@pytest.mark.parametrize("folder", ["ONLINE", "REMOTE:llamafactory/demo_data"])
def test_a_list_of_datasets_on_a_hub_is_refused_with_what_to_do(folder):
    """LLaMA-Factory takes both (``get_dataset_list``); what it would find there is not passed over in silence."""
    with pytest.raises(FcitError, match=r"put a dataset_info\.json into a folder") as caught:
        Catalogue(folder).entry("identity")
    assert repr(folder) in str(caught.value)


@pytest.mark.parametrize("read", [lambda c: c.check(["mine"], with_test=False), lambda c: TrainFiles(c).count("mine")])
def test_entries_in_place_of_their_folder_cannot_name_a_file(read):
    with pytest.raises(FcitError, match=r"mine has a `file_name`, and `dataset_dir` gives the entries .* name that folder"):
        read(Catalogue({"mine": {"file_name": "mine.json"}}))
