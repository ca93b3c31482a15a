"""Names in ``dataset_info.json``: one that nobody knows is refused or told of, and all that are known go on."""

import json
from dataclasses import fields

import pytest
from llamafactory.data.parser import DatasetAttr
from llamafactory.hparams import DataArguments

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.entries import COLUMN_NAMES, own_datasets
from fcit_plugin.data.forms import TAGS
from fcit_plugin.errors import FcitError

OURS = ("fcit_metric", "fcit_also", "fcit_references", "fcit_images")


def catalogue_of(root, test=False, **entry):
    (root / "mine.json").write_text(json.dumps([{"instruction": "q", "input": "", "output": "a"}]))
    plain = {"file_name": "mine.json"}
    info = {"mine": plain if test else {**plain, **entry}, "mine_test": {**plain, **entry} if test else plain}
    (root / "dataset_info.json").write_text(json.dumps(info))
    return Catalogue(str(root))


def spoiled(name):
    """How a name is usually mistyped."""
    return [name + "s", name.replace("_", "-"), name.upper(), name + " ", name[:-2] + name[-1]]


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(("right", "wrong"), [(right, wrong) for right in OURS for wrong in spoiled(right)])
def test_a_key_of_ours_that_is_misspelled_is_refused_with_the_nearest(right, wrong, test, tmp_path):
    catalogue = catalogue_of(tmp_path, test, **{wrong: "rouge_l"})
    with pytest.raises(FcitError) as caught:
        catalogue.check(["mine"], with_test=True)
    name = "mine_test" if test else "mine"
    assert f"The dataset {name} in dataset_info.json has the unknown key `{wrong}`" in str(caught.value)
    assert right in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("kind", ["columns", "tags"])
def test_a_misspelled_name_of_a_column_or_tag_is_refused_with_the_nearest(kind, tmp_path):
    for right in COLUMN_NAMES if kind == "columns" else TAGS:
        catalogue = catalogue_of(tmp_path, **{kind: {right + "x": "a"}})
        with pytest.raises(FcitError, match=f"`{right}x` in `{kind}`; did you mean `{right}`"):
            catalogue.check(["mine"], with_test=True)


@pytest.mark.parametrize(("key", "meant"), [("rankng", "ranking"), ("formating", "formatting"), ("my_note", None)])
def test_any_other_unknown_key_is_told_of_and_changes_nothing(key, meant, tmp_path, logged):
    catalogue_of(tmp_path, **{key: True}).check(["mine"], with_test=True)
    (line,) = [record.getMessage() for record in logged.records if "is not read" in record.getMessage()]
    assert f"mine in dataset_info.json has the key `{key}`" in line
    assert ("did you mean" in line) is (meant is not None) and (meant or key) in line


def test_all_that_llamafactory_reads_is_let_through(tmp_path, logged):
    """By its own class: what a field of it says in an entry is read, wherever it stands."""
    values = {"ranking": False, "formatting": "alpaca", "split": "train"}
    known = [field.name for field in fields(DatasetAttr) if field.name not in ("load_from", "dataset_name")]
    columns = {name: "instruction" for name in known if name in COLUMN_NAMES and name not in ("chosen", "rejected", "kto_tag")}
    tags = {name: "from" for name in known if name.endswith("_tag") and name != "kto_tag"}
    keys = {name: values.get(name) for name in known if name not in {*COLUMN_NAMES, *tags}}
    assert {*tags} == {*TAGS} and {*keys} == {"formatting", "ranking", "subset", "split", "folder", "num_samples"}
    catalogue_of(tmp_path, columns=columns, tags=tags, **keys).check(["mine"], with_test=True)
    assert not [record for record in logged.records if "is not read" in record.getMessage()]


def test_our_own_entries_are_of_known_names_alone(logged):
    catalogue = Catalogue(DataArguments().dataset_dir)
    for name in own_datasets():
        assert catalogue.entry(name) == own_datasets()[name]
