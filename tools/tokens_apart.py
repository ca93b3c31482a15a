"""How well do identity tokens tell FCIT-mini's tasks apart: of instructions, of images, of both?

    python tools/tokens_apart.py

Prints for each `fcit_identity_source`, centered and raw: the largest and the mean cosine between the tokens of two tasks
(300 training samples each), the smallest between two clients of 50 samples of one task, how many test samples are nearest
to their own task, and the mean weight that they give it. docs/guide/settings.md says what came out.
"""

import json
from itertools import product

import numpy as np
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from fcit_plugin.fcit_benchmark.layout import LAYOUT
from fcit_plugin.knowledge.activation import activation_weights, cosine_matrix
from fcit_plugin.knowledge.image_tokens import Samples, encode, encoder_inputs
from fcit_plugin.knowledge.images import Images
from fcit_plugin.knowledge.sources import make_source
from fcit_plugin.samples.mini.build import base_model_path, mini_root

TRAIN, CLIENT, TEMPERATURE = 300, 50, 0.05


def main() -> None:
    """Print the table."""
    model = LlavaForConditionalGeneration.from_pretrained(base_model_path()).eval()
    processor = AutoProcessor.from_pretrained(base_model_path())

    def read(images):
        return Images(processor.image_processor(images, return_tensors="pt")["pixel_values"])

    known = [_samples(layout.train_path, TRAIN, read) for layout in LAYOUT.values()]
    asked = [_samples(layout.test_path, None, read) for layout in LAYOUT.values()]
    for source, center in product(("text", "image", "both"), (True, False)):
        encoder = make_source(source, "embedding", "mean", center, model, processor.tokenizer, read)
        rows, tests = (
            [encode(encoder, encoder_inputs(encoder, one.texts, lambda one=one: one.images)) for one in part]
            for part in (known, asked)
        )
        for name, count in (("task_hom", 8), ("all 12", len(rows))):
            print(f"{source:6s}{'centered' if center else 'raw':8s}{name:9s}{_measure(rows[:count], tests[:count])}")


def _samples(path: str, count: int | None, read) -> Samples:
    rows = json.loads((mini_root() / path).read_text(encoding="utf-8"))[:count]
    texts = [row["text"] if "text" in row else row["conversations"][0]["value"] for row in rows]
    images = [Image.open(mini_root() / "datasets" / row["image"]).convert("RGB") for row in rows]
    return Samples([text.replace("<image>", "").strip() for text in texts], [read([image]) for image in images])


def _measure(rows: list[np.ndarray], tests: list[np.ndarray]) -> str:
    tokens = np.array([one.mean(axis=0) for one in rows])
    between = cosine_matrix(tokens, tokens)[~np.eye(len(tokens), dtype=bool)]
    generator, within = np.random.default_rng(0), []
    for one in rows:
        for _ in range(20):
            drawn = one[generator.permutation(len(one))[: 2 * CLIENT]].reshape(2, CLIENT, -1).mean(axis=1)
            within.append(cosine_matrix(drawn[:1], drawn[1:])[0, 0])
    used = np.ones(len(tokens), dtype=bool)
    weights = [activation_weights(one, tokens, used, mode="softmax", temperature=TEMPERATURE) for one in tests]
    right = [(one.argmax(axis=1) == k).mean() for k, one in enumerate(weights)]
    own = [one[:, k].mean() for k, one in enumerate(weights)]
    return (
        f"two tasks: at most {between.max():.2f}, mean {between.mean():.2f}; two clients of one: at least {min(within):.2f}; "
        f"test samples: {np.mean(right):.1%} right (worst task {min(right):.0%}), own weight {np.mean(own):.2f}"
    )


if __name__ == "__main__":
    main()
