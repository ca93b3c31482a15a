"""Image features, and whose images they are, of every type of model with a known tower, by transformers' own code alone."""

import numpy as np
import pytest
import torch
from image_architectures import SEEING
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from fcit_plugin.adapters.projectors import FAMILIES as WITH_OWN_PROJECTORS
from fcit_plugin.adapters.projectors import OwnProjectors
from fcit_plugin.errors import FcitError
from fcit_plugin.knowledge.image_tokens import ImageEncoder, Samples
from fcit_plugin.knowledge.images import Images, features_by_row, images_by_row
from fcit_plugin.knowledge.vision_tower import FAMILIES, VisionTower, tower_width

PICTURES = [(40, 24), (16, 16), (24, 56), (32, 32)]
FILL = 250

#: Tiles, a class token and a square as one vector, pooled patches, and patches in a sequence; the rest is for the slow tests.
QUICK = ("llava_next", "internvl", "gemma3", "qwen3_vl")


class Bench:
    """A tiny model, and four pictures of different sizes as its own processor gives them, together and each alone."""

    def __init__(self, name, folder):
        SEEING[name].make(folder)
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(folder).image_processor
        generator = np.random.default_rng(0)
        self.pictures = [Image.fromarray(generator.integers(0, 256, (h, w, 3), np.uint8)) for h, w in PICTURES]
        self.together = self.images(*self.pictures)
        self.alone = [self.images(picture) for picture in self.pictures]
        inner = self.model.model
        self.projector = inner.visual.merger if hasattr(inner, "visual") else inner.multi_modal_projector

    def inputs(self, *pictures):
        made = self.processor([*pictures], return_tensors="pt")
        return {key: made[key] for key in ("pixel_values", "image_grid_thw", "image_sizes") if key in made}

    def images(self, *pictures):
        return Images.of(self.inputs(*pictures))

    def seen(self, picture):
        """What the projector is given of a picture, and what it gives, and how many tokens it is in the prompt."""
        kept = []
        hook = self.projector.register_forward_hook(lambda module, args, output: kept.append((args[0], output)))
        with torch.no_grad():
            features = self.model.get_image_features(**self.inputs(picture), return_dict=True).pooler_output
        hook.remove()
        [(before, after)] = kept
        tokens = sum(part.flatten(0, -2).shape[0] for part in features)
        return before.flatten(0, -2), after.flatten(0, -2), tokens


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in SEEING if name in FAMILIES],
)
def bench(request, tmp_path_factory):
    return Bench(request.param, tmp_path_factory.mktemp(request.param))


def test_every_family_has_a_tiny_model():
    assert set(FAMILIES) <= set(WITH_OWN_PROJECTORS) <= SEEING.keys()
    assert len(FAMILIES) == 11


def expected_feature(bench, picture):
    before = bench.seen(picture)[0]
    width = tower_width(bench.model.config)
    return before.mean(dim=0).reshape(-1, width).mean(dim=0).numpy()  # a square of patches as one vector: its mean


def test_a_feature_is_the_mean_of_what_the_projector_is_given_of_that_image(bench):
    expected = [expected_feature(bench, picture) for picture in bench.pictures]
    tower = VisionTower(bench.model)
    assert len(bench.together) == 4 and tower.width == expected[0].size
    np.testing.assert_allclose(tower(bench.together).numpy(), expected, rtol=1e-4, atol=1e-5)
    apart = np.concatenate([tower(images).numpy() for images in bench.alone])
    np.testing.assert_allclose(apart, expected, rtol=1e-4, atol=1e-5)
    distance = np.abs(np.array(expected)[:, None] - np.array(expected)).max(axis=-1) + np.eye(4)
    assert distance.min() > 1e-3, "different images have different features"


def test_rows_of_samples_in_any_order_have_the_features_of_their_own_images(bench):
    expected = np.array([expected_feature(bench, picture) for picture in bench.pictures])
    center = expected[2:].mean(axis=0)
    encoder = ImageEncoder(VisionTower(bench.model), bench.images(*bench.pictures[2:]), batch_size=3)
    rows = [bench.alone[3], None, bench.images(*bench.pictures[:2]), bench.alone[1]]
    found = encoder.encode(Samples(["."] * 4, rows))
    wanted = [expected[3] - center, np.zeros_like(center), expected[:2].mean(axis=0) - center, expected[1] - center]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_the_images_of_a_batch_are_found_by_their_tokens_and_the_projectors_features_with_them(bench):
    """Rows with two images, none, one and one."""
    seen = [bench.seen(picture) for picture in bench.pictures]
    tokens = [count for *_, count in seen]
    config, rows = bench.model.config, [[0, 1], [], [2], [3]]
    ids = torch.full((4, sum(tokens[:2]) + 4), FILL)
    for row, whose in zip(ids, rows, strict=True):
        row[1 : 1 + sum(tokens[i] for i in whose)] = config.image_token_id
    found = images_by_row(ids, torch.ones_like(ids), bench.together, config)
    assert [0 if images is None else len(images) for images in found] == [2, 0, 1, 1]
    tower = VisionTower(bench.model)
    for images, whose in zip(found, rows, strict=True):
        if images is not None:
            expected = torch.cat([tower(bench.alone[i]) for i in whose])
            torch.testing.assert_close(tower(images), expected, rtol=1e-4, atol=1e-5)
    counts = features_by_row(ids, bench.inputs(*bench.pictures), config)
    features = [sum(len(seen[i][1]) for i in whose) for whose in rows]
    assert counts == features
    ids[2, 1] = FILL
    with pytest.raises(FcitError, match="4 images do not fit to"):
        images_by_row(ids, torch.ones_like(ids), bench.together, config)


def test_a_tower_is_asked_before_the_weights_of_own_projectors_are_known(bench):
    def unknown(total):
        raise AssertionError("nobody uses what the projector gives")

    expected = VisionTower(bench.model)(bench.together)
    path = next(name for name, module in bench.model.named_modules() if module is bench.projector)
    own = {f"{path}.{key}": value for key, value in bench.projector.state_dict().items()}
    mixing = OwnProjectors(bench.model, [own, own], unknown)
    assert torch.equal(VisionTower(bench.model)(bench.together), expected)
    with pytest.raises(AssertionError, match="nobody uses"):
        bench.model.get_image_features(**bench.inputs(*bench.pictures))
    mixing.remove()


@pytest.mark.parametrize("size", [(40, 24), (7, 90), (336, 1000), (16, 16), (33, 31)])
def test_llava_next_s_tokens_of_an_image_are_those_that_its_own_code_packs(tmp_path, size):
    SEEING["llava_next"].make(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    bench = Bench("llava_next", tmp_path)
    picture = Image.new("RGB", size[::-1])
    ids = torch.tensor([[1, *[config.image_token_id] * bench.seen(picture)[2], FILL]])
    assert len(images_by_row(ids, torch.ones_like(ids), bench.images(picture), config)[0]) == 1
