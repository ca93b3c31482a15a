"""A sealed folder is there whole or not at all, whatever happens while it is written, and tells of every changed byte."""

import json
import os
from pathlib import Path

import pytest
from crashes import crash_everywhere, in_a_child, limit_file_size, refuse

from fcit_plugin.state.sealed import CHECKSUMS, clean, discard, problems, seal

FILES = {"a.json": b'{"a": 1}', "deep/er/b.bin": bytes(range(256)) * 300, "empty": b"", "ä": b"x"}


def writer(files):
    def write(folder: Path) -> None:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

    return write


def held(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS}


@pytest.fixture
def folder(tmp_path):
    seal(tmp_path / "sealed", writer(FILES))
    return tmp_path / "sealed"


def test_a_sealed_folder_holds_what_was_written_and_its_sums_are_sha256(folder):
    import subprocess

    assert held(folder) == FILES
    assert problems(folder) == []
    assert [path.name for path in folder.parent.iterdir()] == ["sealed"]
    sums = json.loads((folder / CHECKSUMS).read_text())["files"]
    assert sums.keys() == FILES.keys()
    for name, expected in sums.items():
        found = subprocess.run(["sha256sum", folder / name], capture_output=True, text=True, check=True).stdout
        assert found.split()[0].lstrip("\\") == expected


@pytest.mark.parametrize("name", [*FILES, CHECKSUMS])
def test_every_changed_byte_is_found_and_its_file_is_named(folder, name):
    path = folder / name
    whole = path.read_bytes()
    positions = range(0, len(whole), max(1, len(whole) // 97))
    for position in positions:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x20]) + whole[position + 1 :])
        (problem,) = problems(folder)
        assert problem.startswith(str(path)), (position, problem)
    for changed in (whole + b"\n", whole[: len(whole) // 2] if whole else b"\0"):
        path.write_bytes(changed)
        (problem,) = problems(folder)
        assert problem.startswith(str(path))
    path.unlink()
    (problem,) = problems(folder)
    assert problem.startswith(str(path))
    path.write_bytes(whole)
    assert problems(folder) == []


def test_several_damaged_files_are_all_named(folder):
    (folder / "a.json").write_bytes(b"")
    (folder / "empty").unlink()
    assert [problem.split(" ")[0] for problem in problems(folder)] == [str(folder / "a.json"), str(folder / "empty")]


@pytest.mark.thorough
def test_a_kill_before_any_file_operation_leaves_the_old_folder_or_the_new_one(folder):
    new = {"a.json": b"[]", "other/c": b"c" * 5000}
    ends = []

    def check(done):
        clean(folder.parent)
        assert sorted(path.name for path in folder.parent.iterdir()) in (["sealed"], [])
        if folder.exists():
            assert problems(folder) == []
            ends.append(held(folder))
            assert ends[-1] == (new if done else ends[-1]) and ends[-1] in (FILES, new)
        else:
            ends.append(None)
        seal(folder, writer(FILES))

    operations = crash_everywhere(lambda: seal(folder, writer(new)), folder.parent, check)
    assert operations > 10
    assert ends[0] == FILES and ends[-1] == new
    assert ends.count(None) <= 1, "there is one moment in which the old folder has lost its name and the new has none yet"


@pytest.mark.thorough
def test_a_kill_before_any_file_operation_of_a_first_writing_leaves_nothing_or_all_of_it(tmp_path):
    folder = tmp_path / "here" / "sealed"

    def check(done):
        assert folder.exists() or not done
        assert not folder.exists() or (held(folder) == FILES and problems(folder) == [])
        discard(folder)

    assert crash_everywhere(lambda: seal(folder, writer(FILES)), tmp_path, check) > 10


def test_a_full_disk_at_any_file_operation_is_said_and_leaves_what_was_there(folder, capfd):
    new = {"a.json": b"[]", "other/c": b"c" * 5000}

    def work():
        try:
            seal(folder, writer(new))
        except OSError as error:
            assert str(folder) in str(error) and "No space left on device" in str(error), error  # noqa: PT017  # in a process of its own
            os._exit(2)

    def check(done):
        assert [path.name for path in folder.parent.iterdir()] == ["sealed"]
        assert problems(folder) == [] and held(folder) in ((new,) if done else (FILES, new))
        seal(folder, writer(FILES))

    crash_everywhere(work, folder.parent, check, fault=refuse)
    assert "AssertionError" not in capfd.readouterr().err


@pytest.mark.parametrize("limit", [0, 1, 300, 70_000])
def test_a_file_cut_short_by_the_system_leaves_the_old_folder(folder, limit):
    def work():
        limit_file_size(limit)
        with pytest.raises(OSError, match=r"could not be written .File too large.*still there"):
            seal(folder, writer({"a": b"1", "b": b"2" * 80_000}))

    assert in_a_child(work) == 0
    assert held(folder) == FILES and problems(folder) == []
    assert [path.name for path in folder.parent.iterdir()] == ["sealed"]


def test_everything_is_flushed_to_the_disk_before_the_name_is_given_and_the_name_after(tmp_path, monkeypatch):
    order = []
    fsync, rename = os.fsync, Path.rename

    def watched_fsync(handle):
        order.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def watched_rename(path, target):
        order.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    seal(tmp_path / "sealed", writer(FILES))
    at = order.index("rename")
    partial = tmp_path / ".sealed.partial"
    expected = {str(partial / name) for name in [*FILES, CHECKSUMS, "deep", "deep/er"]} | {str(partial)}
    assert set(order[:at]) == expected
    assert order[at + 1 :] == [str(tmp_path)]


def test_discarding_a_folder_never_leaves_half_of_it_under_its_name(folder):
    def check(done):
        if folder.exists():
            assert not done and held(folder) == FILES
        clean(folder.parent)
        discard(folder)
        seal(folder, writer(FILES))

    assert crash_everywhere(lambda: discard(folder), folder.parent, check) > 3
