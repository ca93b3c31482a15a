"""Why a DISCO run on FCIT-mini loses what it knew: is it the routing, or the projector that all subspaces share?

    python scripts/where_it_forgets.py saves/fcit_mini/disco

Prints for each subspace the weight that its own task's test instructions give it (mean, smallest), and how far
training moved each tensor of the projector, as a share of its norm.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from fcit_plugin.federation.state import load_state
from fcit_plugin.knowledge.activation import Router
from fcit_plugin.knowledge.encoders import make_encoder
from fcit_plugin.mini.build import base_model_path, mini_root
from fcit_plugin.benchmark.layout import LAYOUT


def main() -> None:
    """Look at one output folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", type=Path)
    state, manifest = load_state(parser.parse_args().output_dir)
    if manifest["identity_source"] != "text":
        raise SystemExit("This script asks with instructions alone; the run was trained with images in its identity tokens.")
    model = LlavaForConditionalGeneration.from_pretrained(base_model_path())
    tokenizer = AutoTokenizer.from_pretrained(base_model_path())
    encoder = make_encoder(
        manifest["identity_encoder"], manifest["identity_pooling"], manifest["identity_center"], model, tokenizer
    )
    router = Router(encoder, state.tokens, manifest["activation"], manifest["temperature"])
    for k, tasks in enumerate(state.tasks):
        for task in tasks:
            rows = json.loads((mini_root() / LAYOUT[f"fcit_{task}"].test_path).read_text(encoding="utf-8"))
            weights = router.weights([row["text"] for row in rows])[:, k]
            print(f"subspace {k}  {task:12s} own weight: mean {weights.mean():.3f}, smallest {weights.min():.3f}")
    untuned = dict(model.named_parameters())
    for key, tuned in state.shared.items():
        moved = torch.linalg.vector_norm(tuned - untuned[key]) / torch.linalg.vector_norm(untuned[key])
        print(f"{key}  moved by {moved:.2f} of its norm")


if __name__ == "__main__":
    main()
