"""Images that records name outside of the folder of images: read as LLaMA-Factory reads them, and told."""

import json

import pytest
from bad_records import good
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
from PIL import Image

from fcit_plugin.data.catalogue import Catalogue
from fcit_plugin.data.pipeline import Pipeline
from fcit_plugin.errors import FcitError


@pytest.fixture
def train(llava_model, tmp_path):
    """Reads a dataset of eight records whose fourth names the given image; there is one at ``tmp_path / "other.png"``."""
    media = tmp_path / "media"
    media.mkdir()
    Image.new("RGB", (16, 16), (9, 9, 9)).save(tmp_path / "other.png")

    def read(formatting, image):
        written = good(formatting, "sft", media, images=True)
        written.records[3]["image"] = image if formatting == "fcit" else [image]
        (tmp_path / "records.json").write_text(json.dumps(written.records))
        entry = {**written.entry, "file_name": "records.json"}
        (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": entry}))
        keys = {
            "model_name_or_path": str(llava_model), "stage": "sft", "do_train": True, "finetuning_type": "lora",
            "template": "llava", "dataset": "mine", "dataset_dir": str(tmp_path), "media_dir": str(media),
            "report_to": "none", "output_dir": str(tmp_path / "out"), "overwrite_cache": True,
        }  # fmt: skip
        model_args, data_args, training_args, *_ = get_train_args(keys)
        catalogue = Catalogue(str(tmp_path), media_dir=str(media))
        return Pipeline(model_args, data_args, training_args, load_tokenizer(model_args), catalogue, "sft").train("mine")

    return read


def paths(tmp_path):
    """Names of an image within the folder, and outside of it."""
    linked = tmp_path / "media" / "linked"
    linked.mkdir()
    (linked / "image.png").symlink_to(tmp_path / "other.png")
    return ["image5.png", "linked/image.png", f"{tmp_path}/media/image5.png"], ["../other.png", f"{tmp_path}/other.png"]


@pytest.mark.parametrize("formatting", ["alpaca", "sharegpt", "openai"])
def test_an_image_outside_of_the_folder_is_read_and_told(train, tmp_path, logged, formatting):
    inside, outside = paths(tmp_path)
    for image in (*inside, *outside):
        logged.clear()
        assert len(train(formatting, image).rows) == 8
        told = "Dataset `mine`: 1 images lie outside of `media_dir`" in logged.text and "record 3" in logged.text
        assert told == (image in outside), image


def test_the_plugins_own_form_refuses_it(train, tmp_path):
    inside, outside = paths(tmp_path)
    for image in inside:
        assert len(train("fcit", image).rows) == 8
    for image in outside:
        with pytest.raises(FcitError, match=r"record 3.*lies outside of the images' folder"):
            train("fcit", image)
