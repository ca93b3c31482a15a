"""What several tests of commands begin from."""

import llamafactory_examples as examples
import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def their_data(tmp_path_factory):
    return examples.data(tmp_path_factory.mktemp("theirs") / "data")
