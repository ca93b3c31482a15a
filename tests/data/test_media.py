"""Whether media files are what they were when a run first read them: by size, time and contents, each when it is used."""

import os
import shutil
import time

import numpy as np
import pytest
from datasets import Dataset

from fcit_plugin.data.media import MEDIA, Media
from fcit_plugin.data.pipeline import Split
from fcit_plugin.errors import FcitError

COUNT = 400  # of which four are read at the start


def split_of(folder, count=COUNT):
    images = [[str(folder / f"{number}.png")] for number in range(count)]
    rows = Dataset.from_dict({"_images": images, "_videos": [None] * count, "_audios": [None] * count})
    return Split("color", rows, rows, [("x",)] * count, ["y"] * count, ["assistant"] * count, range(count))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "images"
    path.mkdir()
    for number in range(COUNT):
        (path / f"{number}.png").write_bytes(f"image {number:03}".encode())
        os.utime(path / f"{number}.png", ns=(10**18, 10**18))
    return path


@pytest.fixture
def begun(folder, tmp_path):
    """The record of a run that has used the first hundred."""
    media = Media([split_of(folder)], seed=3)
    assert media.begin(None, whole=False) == 0
    media.read("color", range(100))
    media.write(tmp_path)
    return tmp_path / MEDIA


def read_of(media):
    return set(np.flatnonzero(media._read).tolist())


def again(folder, record, whole=False):
    media = Media([split_of(folder)], seed=3)
    return media, media.begin(record, whole)


def change(path, text, when=10**18):
    path.write_bytes(text)
    os.utime(path, ns=(when, when))


def test_one_in_a_hundred_is_read_at_the_start_and_the_others_once_when_they_are_used(folder, begun, monkeypatch):
    media = Media([split_of(folder)], seed=3)
    media.begin(None, whole=False)
    sample = read_of(media)
    assert len(sample) == 4 and sample == read_of(again(folder, begun)[0]), "the same by seed"
    assert sample != read_of((other := Media([split_of(folder)], seed=4), other.begin(None, whole=False))[0])
    media.read("color", [5, 6])
    assert read_of(media) == sample | {5, 6}
    monkeypatch.setattr("fcit_plugin.data.media._sum", lambda path: pytest.fail(f"{path} was read twice"))
    media.read("color", [5, 6, *sample])


def test_a_file_of_the_sample_that_changed_is_named_at_the_start(folder, begun):
    number = min(read_of(again(folder, begun)[0]))
    change(folder / f"{number}.png", b"IMAGE 000")
    with pytest.raises(FcitError, match=rf"/{number}\.png is not the file .*its contents have changed; put that file back"):
        again(folder, begun)


def test_any_other_one_of_the_same_size_and_time_is_named_when_it_is_used(folder, begun):
    sample = read_of(again(folder, begun)[0])
    number = next(number for number in range(100) if number not in sample)
    change(folder / f"{number}.png", b"IMAGE 000")
    media, _ = again(folder, begun)
    media.read("color", [number + 1])
    with pytest.raises(FcitError, match=rf"/{number}\.png is not the file"):
        media.read("color", [number])


def test_with_full_all_are_read_at_the_start(folder, tmp_path):
    media = Media([split_of(folder)], seed=3)
    media.begin(None, whole=True)
    assert read_of(media) == set(range(COUNT))
    media.write(tmp_path)
    change(folder / "399.png", b"IMAGE 399")
    with pytest.raises(FcitError, match=r"/399\.png is not the file"):
        again(folder, tmp_path / MEDIA, whole=True)


def test_a_changed_size_is_named_at_the_start_with_both(folder, begun):
    change(folder / "250.png", b"another image")
    with pytest.raises(FcitError, match=r"/250\.png is not the file .*: it had 9 bytes and has 13; put"):
        again(folder, begun)


def test_a_file_with_another_time_whose_contents_are_known_is_read_at_the_start(folder, begun):
    change(folder / "50.png", b"IMAGE 050", when=2 * 10**18)
    with pytest.raises(FcitError, match=r"/50\.png is not the file"):
        again(folder, begun)
    change(folder / "50.png", b"image 050", when=3 * 10**18)
    media, unknown = again(folder, begun)
    assert unknown == 0 and 50 in read_of(media)


def test_a_copy_with_other_times_goes_on_and_what_nobody_can_know_is_counted(folder, begun, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    media, unknown = again(copied, begun)
    known = 100 + len(read_of(again(folder, begun)[0]) - set(range(100)))
    assert unknown == COUNT - known
    assert len(read_of(media)) <= 8, "not all of them are read again at the start"
    media.read("color", range(COUNT))


def test_other_records_and_an_earlier_version_are_nothing_to_compare_with(folder, begun, tmp_path):
    (folder / "0.png").rename(folder / "z.png")
    assert again(folder, begun)[1] == 0, "the records themselves are compared elsewhere"
    assert again(folder, tmp_path / "nowhere.safetensors")[1] == 0


def test_records_without_files_keep_nothing(tmp_path):
    rows = Dataset.from_dict({"_images": [None, [b"in the record"]], "_videos": [None] * 2, "_audios": [None] * 2})
    media = Media([Split("a", rows, rows, [("x",)] * 2, [], [])], seed=0)
    assert media.begin(None, whole=True) == 0
    media.read("a", [0, 1])
    media.write(tmp_path)
    assert not (tmp_path / MEDIA).exists()


@pytest.mark.slow
def test_300_thousand_files_take_seconds(tmp_path):
    """A stat each, and a read of one in a hundred; the files are 300 links, for which a stat is as long."""
    for number in range(300_000):
        folder = tmp_path / str(number // 1000)
        if number % 1000 == 0:
            folder.mkdir()
            (folder / "0.png").write_bytes(os.urandom(100_000))
        else:
            os.link(folder / "0.png", folder / f"{number}.png")
    images = [[str(tmp_path / str(n // 1000) / (f"{n}.png" if n % 1000 else "0.png"))] for n in range(300_000)]
    rows = Dataset.from_dict({"_images": images})
    split = Split("a", rows, rows, [("x",)] * 300_000, [], [])
    start = time.perf_counter()
    Media([split], seed=0).begin(None, whole=False)
    assert time.perf_counter() - start < 60
