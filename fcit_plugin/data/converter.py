"""The dataset converter ``fcit``: records of the released benchmark in LLaMA-Factory's standard form.

Train records are {"image", "conversations": [{"from", "value"}, ...]}, test records are
{"question_id", "image", "text", "answer"}, whose text carries no image tag. A test record travels along as it was, in the
column :data:`RECORD`, for those who look for its reference; LLaMA-Factory drops the column with the others it has read.
"""

import json
import os
from typing import Any

from ..errors import FcitError
from ..fcit_benchmark.records import IMAGE

RECORD = "_fcit_record"
"""Column with the test record as JSON."""

_ROLES = {"human": "user", "gpt": "assistant"}


def make_converter(base: type) -> type:
    """The converter class on LLaMA-Factory's ``DatasetConverter``."""

    class FcitConverter(base):
        def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
            attributes = self.dataset_attr
            is_test = not (attributes.messages and example.get(attributes.messages))
            if is_test:
                answer = example.get(attributes.response)
                turns = [_turn("user", example[attributes.prompt]), _turn("assistant", "" if answer is None else str(answer))]
            else:
                turns = _turns(example, attributes.messages, str(attributes))
            image = example.get(attributes.images) if attributes.images else None
            if image and not any(IMAGE in turn["content"] for turn in turns):
                turns[0]["content"] = f"{IMAGE}\n{turns[0]['content']}"
            return {
                "_prompt": turns[:-1],
                "_response": turns[-1:],
                "_system": "",
                "_tools": "",
                "_images": [image_path(self._media_root(), image)] if image else None,
                "_videos": None,
                "_audios": None,
                **({RECORD: json.dumps(dict(example), default=str)} if is_test else {}),
            }

        def _media_root(self) -> str:
            return getattr(self.dataset_attr, "media_root", None) or self.data_args.media_dir

    return FcitConverter


def image_path(folder: str, image: str) -> str:
    """The file of an image that a record names. Records may come from anywhere, so none may name other files.

    Args:
        folder: The folder that images are in.
        image: The record's path, relative to it.

    Raises:
        FcitError: It leads out of the folder, or there is no such file.
    """
    path, root = os.path.join(folder, image), os.path.abspath(folder)
    if os.path.commonpath([root, os.path.abspath(path)]) != root:
        raise FcitError(f"its image {image} lies outside of the images' folder {folder}")
    if not os.path.isfile(path):
        raise FcitError(
            f"its image {path} does not exist (`media_dir` is the folder of images; of the benchmark's, "
            "`fcit-cli data verify` says where they are available)"
        )
    return path


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _turns(example: dict[str, Any], column: str, dataset: str) -> list[dict[str, str]]:
    turns = example[column]
    if len(turns) < 2 or len(turns) % 2 or any(t["from"] != ("human", "gpt")[i % 2] for i, t in enumerate(turns)):
        raise FcitError(f"A record of the dataset {dataset} does not go human, gpt, human, gpt ...: {str(turns)[:200]}.")
    return [_turn(_ROLES[turn["from"]], turn["value"]) for turn in turns]
