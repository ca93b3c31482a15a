"""LLaMA-Factory's own objects for a small text model."""

import pytest
import tiny


@pytest.fixture
def train_args(text_model, text_data, tmp_path):
    """What ``get_train_args`` makes of a plain recipe."""
    from llamafactory.hparams.parser import get_train_args

    keys = tiny.recipe(text_model, text_data, tmp_path / "out", stage="sft", dataset="color")
    return get_train_args({k: v for k, v in keys.items() if not k.startswith("fcit_")})


@pytest.fixture
def loaded(train_args):
    """Arguments, tokenizer module and template of the tiny Llama."""
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.model import load_tokenizer

    module = load_tokenizer(train_args[0])
    return train_args, module, get_template_and_fix_tokenizer(module["tokenizer"], train_args[1])
