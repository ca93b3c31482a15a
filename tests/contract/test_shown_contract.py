"""What we rely on in what other libraries say, and know of models."""

import logging

import pytest
import transformers
from llamafactory.extras.constants import DEFAULT_TEMPLATE, SUPPORTED_MODELS
from llamafactory.extras.misc import count_parameters
from torch import nn
from transformers import AutoConfig

from fcit_plugin.engine.quiet import _CONFIGURATIONS
from fcit_plugin.recipe.ordinary import template_of


def test_llamafactory_counts_trained_and_all_weights():
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 5, bias=False))
    model[0].weight.requires_grad = False
    assert count_parameters(model) == (20, 32)


def test_llamafactory_knows_templates_by_the_names_of_its_models():
    assert isinstance(next(iter(SUPPORTED_MODELS.values())), dict) and len(DEFAULT_TEMPLATE) > 100
    assert template_of("Qwen/Qwen2.5-7B-Instruct") == template_of("models/Qwen2.5-7B-Instruct") == "qwen"
    assert template_of("llava-hf/llava-1.5-7b-hf") == "llava"
    assert template_of("somebody/something") is None


def test_transformers_shows_a_configuration_in_a_line_that_begins_as_we_know(text_model):
    found = []

    class Keeps(logging.Handler):
        def emit(self, record):
            found.append(record.getMessage())

    handler, level = Keeps(), transformers.logging.get_verbosity()
    logging.getLogger("transformers").addHandler(handler)
    transformers.logging.set_verbosity_info()
    try:
        AutoConfig.from_pretrained(text_model)
    finally:
        transformers.logging.set_verbosity(level)
        logging.getLogger("transformers").removeHandler(handler)
    assert any(text.startswith(_CONFIGURATIONS) for text in found)


@pytest.mark.parametrize("switch", ["enable_progress_bar", "disable_progress_bar", "is_progress_bar_enabled"])
def test_transformers_progress_bars_can_be_switched(switch):
    assert callable(getattr(transformers.logging, switch))
