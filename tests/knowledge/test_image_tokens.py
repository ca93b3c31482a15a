"""Identity tokens of images against what the projector is given, computed by transformers alone."""

import hashlib
import json

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from transformers import AutoProcessor, Glm4vConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from fcit_plugin.fcit_benchmark.layout import LAYOUT
from fcit_plugin.knowledge.activation import Router, cosine_matrix
from fcit_plugin.knowledge.embedding import EmbeddingEncoder
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.image_tokens import ImageEncoder, Samples, TextAndImageEncoder, token_width
from fcit_plugin.knowledge.images import Images, images_by_row
from fcit_plugin.knowledge.reference_images import reference_images
from fcit_plugin.knowledge.sources import make_source, source_dimension
from fcit_plugin.knowledge.vision_tower import VisionTower, check_family
from fcit_plugin.samples.mini.build import base_model_path, mini_root

TEXTS = ["name the color of this square please", "which letter belongs to it", "count how many", "count ?"]


@pytest.fixture(scope="module")
def model(llava_model):
    return LlavaForConditionalGeneration.from_pretrained(llava_model).eval()


@pytest.fixture(scope="module")
def read(llava_model):
    processor = AutoProcessor.from_pretrained(llava_model).image_processor
    return lambda images: Images(processor(images, return_tensors="pt")["pixel_values"])


class Given(Images):
    """Images whose slices are images."""

    def __getitem__(self, which):
        return Images(self.pixels[which])


@pytest.fixture(scope="module")
def images():
    return Given(torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)))


def given_to_the_projector(model, images):
    """The mean over the patches of the projector's input, one image at a time."""
    seen = []
    handle = model.model.multi_modal_projector.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    config = model.config
    with torch.no_grad():
        for image in images.pixels:
            model.get_image_features(image[None], config.vision_feature_layer, config.vision_feature_select_strategy)
    handle.remove()
    return np.concatenate([features.numpy().mean(axis=1) for features in seen])


@pytest.mark.parametrize(("layer", "strategy"), [(-1, "default"), (-2, "full"), ([0, -1], "default")])
def test_a_feature_is_the_mean_of_what_the_projector_is_given(llava_model, images, layer, strategy):
    model = LlavaForConditionalGeneration.from_pretrained(
        llava_model, vision_feature_layer=layer, vision_feature_select_strategy=strategy, ignore_mismatched_sizes=True
    )
    if isinstance(layer, list):
        model.model.multi_modal_projector = torch.nn.Identity()  # of twice the width
    tower = VisionTower(model)
    expected = given_to_the_projector(model, images)
    assert tower.width == expected.shape[1]
    np.testing.assert_allclose(tower(images).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_projector_has_no_part_in_a_token(model, images, llava_model):
    other = LlavaForConditionalGeneration.from_pretrained(llava_model)
    for parameter in other.model.multi_modal_projector.parameters():
        torch.nn.init.normal_(parameter)
    assert torch.equal(VisionTower(other)(images), VisionTower(model)(images))


def test_a_model_in_training_gives_the_same_features_and_goes_on_training(llava_model, images):
    config = LlavaConfig.from_pretrained(llava_model)
    config.vision_config.attention_dropout = 0.5
    model = LlavaForConditionalGeneration.from_pretrained(llava_model, config=config)
    expected = VisionTower(model.eval())(images)
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(VisionTower(model)(images), expected)
    assert model.model.vision_tower.training


def test_the_mean_of_the_public_images_is_the_center(model, read, images):
    mean = given_to_the_projector(model, read(reference_images())).mean(axis=0)
    samples = Samples(TEXTS[:2], [images[:1], images[1:2]])
    for center, expected in ((True, mean), (False, 0)):
        encoder = make_source("image", "embedding", "mean", center, model, None, read)
        found = encoder.encode(samples)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, given_to_the_projector(model, images[:2]) - expected, rtol=1e-4, atol=1e-5)


def test_several_images_are_averaged_and_none_gives_zeros(model, images):
    encoder = ImageEncoder(VisionTower(model), images[4:], batch_size=2)
    found = encoder.encode(Samples(TEXTS, [images[:1], None, images[1:4], None]))
    raw = given_to_the_projector(model, images)
    center = raw[4:].mean(axis=0)
    np.testing.assert_allclose(found[0], raw[0] - center, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[2], raw[1:4].mean(axis=0) - center, rtol=1e-4, atol=1e-5)
    assert not found[[1, 3]].any()


def test_no_more_images_than_a_batch_are_held_at_a_time(model, images):
    seen, tower = [], VisionTower(model)

    class Counting:
        width = tower.width

        def __call__(self, images):
            seen.append(len(images))
            return tower(images)

    class Reading(list):
        def __getitem__(self, i):
            asked.append((i, len(seen)))
            return super().__getitem__(i)

    asked = []
    ImageEncoder(Counting(), None, batch_size=2).encode(Samples(TEXTS, Reading(images[i : i + 1] for i in range(4))))
    assert seen == [2, 2]
    assert asked == [(0, 0), (1, 0), (2, 1), (3, 1)], "the third is read when the first two are done"


def test_the_cosine_of_both_is_the_mean_of_the_two_cosines(model, read, images):
    text = EmbeddingEncoder(model.get_input_embeddings(), tiny.tokenizer())
    both = make_source("both", "embedding", "mean", False, model, tiny.tokenizer(), read)
    image = make_source("image", "embedding", "mean", False, model, tiny.tokenizer(), read)
    samples = Samples(TEXTS, [images[i : i + 1] for i in range(4)])
    found = both.encode(samples)
    texts, pictures = text.encode(TEXTS), image.encode(samples)
    expected = (cosine_matrix(texts, texts) + cosine_matrix(pictures, pictures)) / 2
    np.testing.assert_allclose(cosine_matrix(found, found), expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert token_width(both) == source_dimension("both", "embedding", "mean", False, model, None) == 32 + 16
    assert token_width(image) == source_dimension("image", "embedding", "mean", False, model, None) == 16


def test_without_an_image_the_text_alone_decides(model, images):
    text = EmbeddingEncoder(model.get_input_embeddings(), tiny.tokenizer())
    both = TextAndImageEncoder(text, ImageEncoder(VisionTower(model), None))
    known = both.encode(Samples(TEXTS[:2], [images[:1], images[1:2]]))
    asked = cosine_matrix(both.encode(Samples(TEXTS[2:], [None, None])), known)
    np.testing.assert_allclose(asked, cosine_matrix(text.encode(TEXTS[2:]), text.encode(TEXTS[:2])) / np.sqrt(2), atol=1e-6)


def test_a_samples_weights_do_not_depend_on_the_samples_beside_it(model, images):
    encoder = ImageEncoder(VisionTower(model), images[4:], batch_size=3)
    rows = [images[:1], images[1:2], None, images[2:4]]
    sums = encoder.encode(Samples(TEXTS[:2], rows[:2]))
    router = Router(encoder, SubspaceTokens(sums, np.ones(2, np.int64)), "softmax", 0.05, "auto")
    alone = np.concatenate([router.weights([(text,)], lambda row=row: [row]) for text, row in zip(TEXTS, rows, strict=True)])
    asked = [(text,) for text in TEXTS]
    assert alone[0, 0] > 0.5 and alone[1, 1] > 0.5
    np.testing.assert_allclose(alone[2], [0.5, 0.5], err_msg="no image: no subspace is nearer than another")
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        mixed = router.weights(asked, lambda order=order: [rows[i] for i in order])
        np.testing.assert_allclose(mixed, alone[order], atol=1e-5)
    router.fallback = 0.1
    assert router.weights(asked, lambda: rows).sum(axis=1).round(3).tolist() == [1, 1, 0, 1]


class TestImagesByRow:
    IMAGE = 9
    CONFIG = LlavaConfig(image_token_index=IMAGE)

    def ids(self, *counts):
        width = max(counts) + 2
        return torch.tensor([[0] * (width - 2 - n) + [1] + [self.IMAGE] * n + [2] for n in counts])

    def test_rows_have_as_many_images_as_their_tokens_say(self, images):
        ids = self.ids(4, 0, 8)
        rows = images_by_row(ids, torch.ones_like(ids), images[:3], self.CONFIG)
        assert (
            torch.equal(rows[0].pixels, images[:1].pixels)
            and rows[1] is None
            and torch.equal(rows[2].pixels, images[1:3].pixels)
        )

    def test_no_pixels_mean_no_images(self):
        ids = self.ids(0, 0)
        assert images_by_row(ids, torch.ones_like(ids), None, self.CONFIG) == [None, None]

    def test_the_image_that_llamafactory_puts_outside_of_the_prompt_is_none_of_a_row(self, images):
        ids = self.ids(4, 0)
        rows = images_by_row(ids, (ids != self.IMAGE).long(), images[:1], self.CONFIG)
        assert rows == [None, None]

    @pytest.mark.parametrize("counts", [(4, 3), (0, 0), (4, 1, 1)])
    def test_tokens_that_do_not_fit_are_refused(self, images, counts):
        ids = self.ids(*counts)
        with pytest.raises(ValueError, match=r"2 images do not fit .* raise `cutoff_len`"):
            images_by_row(ids, torch.ones_like(ids), images[:2], self.CONFIG)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (LlamaConfig(), "llama"),
        (Glm4vConfig(), "glm4v"),
        (LlavaConfig(vision_config={"model_type": "pixtral"}), "llava with a pixtral tower"),
    ],
)
def test_other_families_are_refused_by_name(config, kind):
    with pytest.raises(ValueError, match=f"`fcit_identity_source: both` takes the vision tower .* is of type {kind};"):
        check_family(config, "both")


def test_the_public_images_are_always_the_same():
    images = reference_images()
    digest = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()
    assert {image.size for image in images} == {(64, 64)} and len({image.tobytes() for image in images}) == 64
    assert digest == "f68e90c7fe735e502b1ffd904680e1da9d25604df0973e3bde4c310bcc79b7a5", (
        "else tokens of finished runs mean something else"
    )


def test_images_tell_the_tasks_of_fcit_mini_apart_though_not_as_well_as_instructions():
    model = LlavaForConditionalGeneration.from_pretrained(base_model_path()).eval()
    processor = AutoProcessor.from_pretrained(base_model_path()).image_processor
    read = lambda images: Images(processor(images, return_tensors="pt")["pixel_values"])  # noqa: E731
    encoder = make_source("image", "embedding", "mean", True, model, None, read)
    known, asked = [], []
    for layout in [*LAYOUT.values()][:8]:
        rows = json.loads((mini_root() / layout.train_path).read_text())[:60]
        images = [Image.open(mini_root() / "datasets" / row["image"]).convert("RGB") for row in rows]
        tokens = encoder.encode(Samples([""] * 60, [read([image]) for image in images]))
        known.append(tokens[:40].mean(axis=0))
        asked.append(tokens[40:])
    cosines = cosine_matrix(np.array(known), np.array(known))
    assert cosines[~np.eye(8, dtype=bool)].max() < 0.9
    right = [cosine_matrix(tokens, np.array(known)).argmax(axis=1) == k for k, tokens in enumerate(asked)]
    assert np.mean(right) > 0.8
    assert min(cosine_matrix(tokens.mean(axis=0)[None], known[k][None])[0, 0] for k, tokens in enumerate(asked)) > 0.85
