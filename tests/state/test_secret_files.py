"""Secrets of the user's: in files of mode 600, made once and whole, refused where others could have read them."""

import os
import random
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fcit_plugin.errors import FcitError
from fcit_plugin.state.own import sign
from fcit_plugin.state.secret_files import keep_secret, new_secret, read_secret, secret_file


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FCIT_SECRETS_DIR", str(tmp_path / "secrets"))
    return tmp_path / "secrets"


def test_a_secret_is_kept_once_with_mode_600_in_a_folder_of_mode_700(folder):
    before = os.umask(0)
    try:
        keep_secret("run/secret", b"first")
    finally:
        os.umask(before)
    keep_secret("run/secret", b"other")
    assert read_secret("run/secret", 5, "copy it") == b"first"
    assert stat.S_IMODE((folder / "run" / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "run").stat().st_mode) == 0o700
    assert [path.name for path in (folder / "run").iterdir()] == ["secret"]


def test_of_several_at_once_one_is_first_and_all_read_that_one():
    def keep(number):
        keep_secret("one", bytes([number]) * 64)
        return read_secret("one", 64, "copy it")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(keep, range(64)))) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666, 0o777])
def test_a_secret_that_others_could_come_by_is_refused(mode):
    keep_secret("one", bytes(32))
    secret_file("one").chmod(mode)
    with pytest.raises(FcitError, match=rf"{re.escape(str(secret_file('one')))} has mode {mode:o}.*chmod 600 "):
        read_secret("one", 32, "copy it")


def test_so_is_the_key_that_signs():
    sign({})
    secret_file("signing.key").chmod(0o644)
    with pytest.raises(FcitError, match=r"signing.key has mode 644"):
        sign({})


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda path: None, r"cannot be read \(No such file"),
        (lambda path: path.mkdir(), "no regular file"),
        (lambda path: os.mkfifo(path), "no regular file"),
        (lambda path: (path.write_bytes(bytes(31)), path.chmod(0o600)), "has 31 bytes, not 32"),
        (lambda path: (path.write_bytes(bytes(33)), path.chmod(0o600)), "has 33 bytes"),
    ],
)
def test_what_is_no_such_secret_is_refused_in_a_sentence_that_names_the_file(folder, made, sentence):
    folder.mkdir()
    made(folder / "one")
    with pytest.raises(FcitError, match=sentence) as raised:
        read_secret("one", 32, "copy it from there")
    assert str(folder / "one") in str(raised.value) and "copy it from there" in str(raised.value)


def test_a_folder_that_cannot_be_written_is_named(folder):
    folder.write_text("in the way")
    with pytest.raises(OSError, match="secrets/one"):
        keep_secret("one", bytes(32))


def test_new_secrets_owe_nothing_to_a_seed():
    found = set()
    for _ in range(100):
        random.seed(1)
        np.random.seed(1)
        found.add(new_secret(32))
    assert len(found) == 100 and {len(secret) for secret in found} == {32}
