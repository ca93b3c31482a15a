"""Projectors of subspaces: mixed by the prompts' weights, against the formula; what cannot be told is refused."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fcit_plugin.adapters.projectors import OwnProjectors, check_one_module, check_projector, mean_projector, module_of
from fcit_plugin.adapters.stacked import Activation
from fcit_plugin.errors import FcitError

K, IN, OUT, PATCHES = 3, 5, 4, 2


class Model(nn.Module):
    """Two layers that are a projector, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.projector = nn.Sequential(nn.Linear(IN, 6), nn.GELU(), nn.Linear(6, OUT))
        self.head = nn.Linear(OUT, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.projector(images)


@pytest.fixture
def parts():
    """The model, projectors of K subspaces, and what each of them alone gives for images."""
    torch.manual_seed(0)
    model = Model()
    own = [
        {f"projector.{key}": torch.randn_like(value) for key, value in model.projector.state_dict().items()} for _ in range(K)
    ]

    def alone(k, images):
        first, second = (own[k][f"projector.{i}.weight"] for i in (0, 2))
        middle = nn.functional.gelu(images @ first.T + own[k]["projector.0.bias"])
        return middle @ second.T + own[k]["projector.2.bias"]

    return model, own, alone


def using(model, own, weights, image_tokens, expands=False):
    activation = Activation(K, 2)
    activation.set(weights, expands, image_tokens)
    return OwnProjectors(model, own, activation.of_image_tokens)


def test_each_image_is_seen_through_the_mean_of_the_projectors_by_its_prompts_weights(parts):
    model, own, alone = parts
    images = torch.randn(3, PATCHES, IN)  # the first prompt has two of them, the second none
    weights = torch.tensor([[0.2, 0.0, 0.6], [1.0, 0.0, 0.0], [0.0, -0.5, 0.5]])
    before = model(images)
    mixer = using(model, own, weights, [2 * PATCHES, 0, PATCHES])
    seen = model(images)
    expected = torch.stack([0.25 * alone(0, image) + 0.75 * alone(2, image) for image in images[:2]] + [alone(2, images[2])])
    torch.testing.assert_close(seen, expected)
    mixer.remove()
    assert torch.equal(model(images), before), "removed, the model sees as before"


def test_a_prompt_without_weights_has_the_shared_projector(parts):
    model, own, alone = parts
    images = torch.randn(2, PATCHES, IN)
    shared = model(images)
    using(model, own, torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), [PATCHES, PATCHES])
    torch.testing.assert_close(model(images), torch.stack([shared[0], alone(1, images[1])]))


def test_each_prompt_may_be_there_several_times_in_a_row_where_generation_says_so(parts):
    model, own, alone = parts
    images = torch.randn(4, PATCHES, IN)
    rows = torch.eye(K)[[1, 2]]
    mixer = using(model, own, rows, [PATCHES, PATCHES], expands=True)
    torch.testing.assert_close(
        model(images), torch.stack([alone(k, image) for k, image in zip((1, 1, 2, 2), images, strict=True)])
    )
    mixer.remove()
    mixer = using(model, own, rows, [PATCHES, PATCHES])
    with pytest.raises(FcitError, match="8 image features for prompts with 4 image tokens"):
        model(images)
    mixer.remove()
    using(model, own, rows, None)
    with pytest.raises(FcitError, match="a video's features"):
        model(images)


def test_fixed_weights_mean_one_projector_the_very_one_of_a_single_subspace(parts):
    _, own, _ = parts
    shared = {key: torch.zeros_like(value) for key, value in own[0].items()}
    for key, value in mean_projector(own, [0.0, 2.0, 0.0], shared).items():
        assert torch.equal(value, own[1][key])
    for key, value in mean_projector(own, [1.0, 3.0, -1.0], shared).items():
        torch.testing.assert_close(value, 0.25 * own[0][key] + 0.75 * own[1][key])
    assert mean_projector(own, [0.0, 0.0, 0.0], shared) is shared


def test_a_model_that_is_moved_to_half_precision_afterwards_takes_its_projectors_along(parts):
    model, own, alone = parts
    using(model, own, torch.tensor([[0.0, 1.0, 1.0]]), [PATCHES])
    image = torch.randn(1, PATCHES, IN)
    seen = model.to(torch.bfloat16)(image.to(torch.bfloat16))
    assert seen.dtype == torch.bfloat16
    torch.testing.assert_close(seen.float(), (alone(1, image) + alone(2, image)) / 2, atol=0.1, rtol=0.1)


def test_a_model_on_a_device_is_not_asked_for_numbers(parts):
    """The meta device has none to give, and a GPU would be waited for."""
    model, own, _ = parts
    using(model, own, torch.eye(K), [PATCHES] * K)
    seen = model.to("meta")(torch.randn(K, PATCHES, IN, device="meta"))
    assert seen.is_meta and seen.shape[0] == K


def test_a_projector_must_be_the_whole_of_one_module(parts):
    model, own, _ = parts
    check_one_module(model, own[0])
    assert module_of(own[0]) == "projector"
    assert module_of(["a.b.weight", "a.b.bias"]) == "a.b"
    for keys in (["projector.0.weight"], [*own[0], "head.weight", "head.bias"], ["projector.0.weight", "projector.2.weight"]):
        with pytest.raises(ValueError, match="not the whole of one module, or have a LoRA on them; train it with"):
            check_one_module(model, keys)


def test_types_of_models_in_which_nobody_knows_whose_a_feature_is_are_refused(parts):
    model, own, _ = parts
    model.config = SimpleNamespace(model_type="mllama")
    with pytest.raises(ValueError, match="this one is mllama: train it with `fcit_method: disco`"):
        check_projector(model, own[0])
    model.config.model_type = "llava"
    check_projector(model, own[0])
    model.projector[0].weight.ds_id = 7  # what ZeRO-3 gives each of its parameters
    with pytest.raises(ValueError, match="take ZeRO-2"):
        check_projector(model, own[0])


def test_an_offloaded_projector_is_refused(parts):
    model, own, _ = parts
    model.projector.to("meta")
    with pytest.raises(ValueError, match="projector is offloaded"):
        using(model, own, torch.eye(K), [1] * K)
