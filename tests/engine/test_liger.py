"""Liger kernels compute the loss of supervised training without logits: with every method that works, or is refused by name.

The package needs Triton, so a stand-in does what counts here: from a model in training that is given labels no logits come.
"""

import sys
from types import SimpleNamespace

import pytest
from llamafactory.model.model_utils.liger_kernel import apply_liger_kernel
from runs import report_of, run_recipe
from transformers import LlamaConfig, LlamaForCausalLM

from fcit_plugin.continual.method import ContinualMethod
from fcit_plugin.continual.methods import METHODS
from fcit_plugin.errors import FcitError
from fcit_plugin.hookspecs import hookimpl
from fcit_plugin.recipe.read import split

PACKAGE = """
from transformers import LlamaForCausalLM

asked, gave = [], []

def apply_liger_kernel_to_llama(rope=True, cross_entropy=False, fused_linear_cross_entropy=True, rms_norm=True, swiglu=True):
    asked.append(fused_linear_cross_entropy)
    whole = LlamaForCausalLM.forward

    def forward(self, *args, labels=None, **kwargs):
        output = whole(self, *args, labels=labels, **kwargs)
        if self.training and labels is not None and fused_linear_cross_entropy:
            gave.append(output.loss)
            output.logits = None
        return output

    LlamaForCausalLM.forward = forward
"""
SHORT = {"fcit_num_rounds": 1, "enable_liger_kernel": True, "lora_rank": 8, "fcit_eval_samples": 1}


@pytest.fixture
def liger(install, monkeypatch):
    """The package, which writes down what it is asked for."""
    monkeypatch.setattr(LlamaForCausalLM, "forward", LlamaForCausalLM.forward)
    install(
        "liger_kernel", PACKAGE, modules={"transformers": "from liger_kernel import apply_liger_kernel_to_llama"}, entry="json"
    )


#: The others too train without logits, for their terms are of gradients; they are run with the slow tests.
QUICK = ("disco", "lwf")


@pytest.mark.parametrize("method", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in METHODS])
def test_every_method_trains_without_logits_or_is_refused_by_name(liger, text_recipe, method):
    keys = text_recipe(fcit_method=method, fcit_eval_every="stage" if method == "disco" else "never", **SHORT)
    if METHODS[method].load().takes_logits():
        with pytest.raises(FcitError, match=f"`enable_liger_kernel` cannot be used with `fcit_method: {method}`, which takes"):
            run_recipe(keys)
        return
    report = report_of(run_recipe(keys))
    assert sys.modules["liger_kernel"].asked == [True] and sys.modules["liger_kernel"].gave
    assert not report["dropped"]


def test_it_is_known_which_methods_take_logits():
    assert [method for method in METHODS if METHODS[method].load().takes_logits()] == ["lwf", "lamol"]


class Stranger(ContinualMethod):
    """A method of another package with a term of its own in the loss, and nothing said of these kernels."""

    def batch_terms(self, sent):
        return []


class Package:
    """Its plugin."""

    @hookimpl
    def fcit_methods(self):
        return {"stranger": Stranger}


def test_a_method_of_another_package_that_takes_logits_is_refused_too(liger, register, text_recipe):
    register(Package())
    with pytest.raises(FcitError, match="`enable_liger_kernel` cannot be used with `fcit_method: stranger`"):
        run_recipe(text_recipe(fcit_method="stranger", **SHORT))


def test_fused_experts_which_these_kernels_compute_too_are_refused(liger, text_recipe):
    with pytest.raises(FcitError, match="`enable_liger_kernel` cannot be used with `fcit_target_parameters"):
        run_recipe(text_recipe(fcit_target_parameters="experts.down_proj", **SHORT))


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_preferences_are_compared_by_logits_which_llamafactory_asks_for(liger, text_recipe, stage):
    """It does so by its own stage, which is that of the local training."""
    rest, *_ = split({**text_recipe(), "fcit_local_stage": stage, "enable_liger_kernel": True})
    assert rest["stage"] == stage
    apply_liger_kernel(LlamaConfig(), SimpleNamespace(enable_liger_kernel=True), True, rest["stage"] not in ["pt", "sft"])
    assert sys.modules["liger_kernel"].asked == [False]
