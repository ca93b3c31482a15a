"""The drawn datasets: layout, determinism, disjointness."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcit_plugin.fcit_benchmark.layout import LAYOUT
from fcit_plugin.samples.mini.build import build_mini, draw_samples, mini_root
from fcit_plugin.samples.mini.tasks import TASKS

TRAIN, TEST = 12, 6
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mini") / "data"
    build_mini(folder, train=TRAIN, test=TEST, seed=3)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def load(path: Path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("layout", LAYOUT.values(), ids=LAYOUT)
def test_files_follow_the_benchmark(root, layout):
    train, test = load(root / layout.train_path), load(root / layout.test_path)
    assert (len(train), len(test)) == (TRAIN, TEST)
    for row in train:
        human, gpt = row["conversations"]
        assert (human["from"], gpt["from"]) == ("human", "gpt")
        assert human["value"].startswith("<image>\n") and gpt["value"]
        assert row["image"].startswith(f"{layout.image_folder}/")
    for row in test:
        assert {"question_id", "image", "text", "answer"} <= row.keys()
        assert "<image>" not in row["text"]
        assert row["image"].startswith(f"{layout.test_image_folder}/")
    for row in train + test:
        with Image.open(root / "datasets" / row["image"]) as image:
            assert (image.size, image.mode) == ((48, 48), "RGB")


@pytest.mark.parametrize("layout", LAYOUT.values(), ids=LAYOUT)
def test_no_image_is_in_train_and_test(root, layout):
    def seen(path: str) -> set[bytes]:
        return {np.asarray(Image.open(root / "datasets" / row["image"])).tobytes() for row in load(root / path)}

    assert not seen(layout.train_path) & seen(layout.test_path)


def test_images_of_different_data_sets_do_not_overwrite_each_other(root):
    files = [
        row["image"]
        for layout in LAYOUT.values()
        for path in (layout.train_path, layout.test_path)
        for row in load(root / path)
    ]
    assert len(files) == len(set(files)) == len(LAYOUT) * (TRAIN + TEST)


def test_flickr30k_references_are_found_by_image_id(root):
    layout = LAYOUT["fcit_flickr30k"]
    references = load(root / "instructions" / layout.folder / layout.captions_file)
    rows = {row["question_id"]: row for row in load(root / layout.test_path)}
    assert {image["id"]: image["file_name"] for image in references["images"]} == {i: r["image"] for i, r in rows.items()}
    for image_id, row in rows.items():
        captions = [note["caption"] for note in references["annotations"] if note["image_id"] == image_id]
        assert len(captions) == 5 and row["answer"] in captions


def test_only_grounding_has_boxes(root):
    for layout in LAYOUT.values():
        for row in load(root / layout.test_path):
            assert ("answer_bbox" in row) == ("size" in row) == (layout.key == "fcit_grounding")


def test_same_seed_same_bytes(root, tmp_path):
    build_mini(tmp_path / "again", train=TRAIN, test=TEST, seed=3)
    assert contents(tmp_path / "again") == contents(root)


def test_other_seed_other_samples():
    first, second = (draw_samples("fcit_dvqa", 20, seed) for seed in (0, 1))
    assert [sample.scene for sample in first] != [sample.scene for sample in second]


def test_build_leaves_nothing_beside(tmp_path):
    (tmp_path / "data").mkdir()
    build_mini(tmp_path / "data", train=1, test=1)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_failed_build_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "fcit_tabmwp", lambda rng: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_mini(tmp_path / "data", train=1, test=1)
    assert not list(tmp_path.iterdir())


def test_cache_is_built_once_by_concurrent_callers(tmp_path, monkeypatch):
    monkeypatch.setenv("FCIT_CACHE", str(tmp_path))
    built = []
    monkeypatch.setattr("fcit_plugin.samples.mini.build.build_mini", lambda root, *_: (built.append(root), root.mkdir()))
    with ThreadPoolExecutor(4) as pool:
        roots = set(pool.map(lambda _: mini_root(2, 1), range(4)))
    assert len(roots) == len(built) == 1
    assert mini_root(2, 2) not in roots


def test_dataset_info_agrees_with_layout():
    info = load(REPOSITORY / "dataset_info" / "dataset_info.json")
    assert [name for name in info if name.startswith("fcit_")] == [name for key in LAYOUT for name in (key, f"{key}_test")]
    for key, layout in LAYOUT.items():
        assert info[key] == {
            "file_name": layout.train_path,
            "formatting": "fcit",
            "columns": {"messages": "conversations", "images": "image"},
            "fcit_metric": layout.metric,
            **({"fcit_also": list(layout.also)} if layout.also else {}),
        }
        assert info[f"{key}_test"] == {
            "file_name": layout.test_path,
            "formatting": "fcit",
            "columns": {"prompt": "text", "response": "answer", "images": "image"},
            "fcit_metric": layout.metric,
            **({"fcit_also": list(layout.also)} if layout.also else {}),
            **({"fcit_references": layout.references} if layout.references else {}),
        }
