"""The built model and the written data, once per test session; without the packages of [real] both skip."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from fcit_plugin.samples.real.data import prepare
from fcit_plugin.samples.real.packages import MissingPackage
from fcit_plugin.samples.real.smollm2_vl import build


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """SmolLM2-VL, built once."""
    folder = tmp_path_factory.mktemp("real") / "smollm2-vl"
    try:
        build(folder)
    except MissingPackage as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    """Digits and easy-VQA, 60 + 20 each."""
    folder = tmp_path_factory.mktemp("real") / "data"
    try:
        prepare(folder, train=60, test=20, fashion="none", emoji="none")
    except MissingPackage as error:
        pytest.skip(str(error))
    return folder
