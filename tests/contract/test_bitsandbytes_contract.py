"""What we rely on in bitsandbytes. A failure here names the behavior that an upgrade changed."""

import itertools

import pytest
import torch

bitsandbytes = pytest.importorskip("bitsandbytes")
modules = bitsandbytes.nn.modules


@pytest.fixture
def linear(monkeypatch):
    """Makes layers in four bits as on a processor with AVX512-BF16."""
    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    return lambda inputs, outputs: bitsandbytes.nn.Linear4bit(inputs, outputs, bias=False, quant_type="nf4").to("cpu")


def pack(layer):
    return modules._convert_weight_packed_for_cpu(layer.weight.data, layer.weight.quant_state)


@pytest.mark.parametrize(
    ("training", "gradient", "switch", "packs"),
    [(False, False, True, True), (True, False, True, False), (False, True, True, False), (False, False, False, False)],
)
def test_a_layer_packs_when_asked_outside_of_training_without_gradient_unless_switched_off(
    linear, monkeypatch, training, gradient, switch, packs
):
    class Packed(Exception):
        pass

    def packed(weight, state):
        raise Packed

    monkeypatch.setattr(modules, "_convert_weight_packed_for_cpu", packed)
    layer = linear(64, 32).train(training)
    layer.support_avx512bf16_for_cpu &= switch
    x = torch.ones(1, 64, requires_grad=gradient)
    if packs:
        with pytest.raises(Packed):
            layer(x)
    else:
        assert layer(x).shape == (1, 32)


@pytest.mark.parametrize(("inputs", "outputs"), [*itertools.product((32, 64, 72, 96, 128, 192), (32, 48, 64, 72, 96))])
def test_only_whole_blocks_of_64_inputs_and_of_32_outputs_can_be_packed(linear, inputs, outputs):
    layer = linear(inputs, outputs)
    assert layer.weight.blocksize == 64
    if inputs % 64 or outputs % 32:
        with pytest.raises((AssertionError, RuntimeError)):
            pack(layer)
    else:
        pack(layer)


@pytest.mark.skipif(not modules.has_avx512bf16(), reason="needs a processor with AVX512-BF16")
@pytest.mark.filterwarnings("ignore:.*an autograd kernel was not registered")
def test_no_gradient_passes_a_packed_layer(linear):
    layer = linear(64, 32)
    x = torch.ones(1, 64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    x.grad = None
    with torch.no_grad():
        layer.eval()(x.detach())
    layer.train()(x).sum().backward()
    assert x.grad is None
