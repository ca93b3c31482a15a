"""Shows that an exported model needs nothing but transformers, and answers as the FCIT model does.

    python tools/export_check.py reference OUT --model BASE --weights 0 --to reference.safetensors
    python tools/export_check.py compare EXPORTED reference.safetensors      # also where no plugin is installed

The first writes inputs and the logits of base model and subspaces, active with fixed weights; the second runs the exported
model on the same inputs and compares. See docs/guide/serving.md.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

PROMPT = "which color has the large square ?"


def load(folder: str) -> torch.nn.Module:
    """A model by the class that its own configuration names."""
    config = transformers.AutoConfig.from_pretrained(folder)
    cls = getattr(transformers, config.architectures[0])
    return cls.from_pretrained(folder, dtype=torch.float32).eval()


def make_inputs(folder: str) -> dict[str, torch.Tensor]:
    """A prompt, with a picture where the model sees."""
    if not (Path(folder) / "processor_config.json").exists():
        return dict(transformers.AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt"))
    from PIL import Image

    image = Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    processor = transformers.AutoProcessor.from_pretrained(folder)
    return dict(processor(text=f"{processor.image_token}{PROMPT}", images=image, return_tensors="pt"))


@torch.inference_mode()
def logits(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits [1, length, vocabulary]."""
    names = ("input_ids", "attention_mask", "pixel_values")
    return model(**{name: inputs[name] for name in names if name in inputs}).logits


def reference(args: argparse.Namespace) -> None:
    """Write inputs and the FCIT model's logits."""
    from fcit_plugin.knowledge.images import features_by_row
    from fcit_plugin.recipe.embedded import resolve_model
    from fcit_plugin.serving.trained import TrainedRun

    trained = TrainedRun.read(args.folder)
    found = {"model_name_or_path": args.model or trained.manifest["base_model"]}
    resolve_model(found)
    base = load(found["model_name_or_path"])
    trained.put_shared(base)
    model, activation = trained.stacked(base)
    weights = trained.fixed_weights(args.weights)
    inputs = make_inputs(found["model_name_or_path"])
    activation.set(torch.tensor([weights]), image_tokens=features_by_row(inputs["input_ids"], inputs, base.config))
    save_file({**inputs, "logits": logits(model.eval(), inputs)}, args.to)
    print(f"Weights {json.dumps(weights)}: inputs and logits in {args.to}.")


def compare(args: argparse.Namespace) -> None:
    """Compare the exported model with what :func:`reference` wrote."""
    expected = load_file(args.reference)
    found = logits(load(args.exported), expected)
    difference = (found - expected["logits"]).abs().max().item()
    print(f"Largest difference of {found.numel()} logits: {difference:.2e} (allowed: {args.tolerance:.0e}).")
    loaded = {"fcit_plugin", "llamafactory", "peft"} & sys.modules.keys()
    if loaded:
        sys.exit(f"This process has imported {', '.join(sorted(loaded))}; start it where the plugin is not installed.")
    if not difference <= args.tolerance:
        sys.exit("The exported model does not answer as the FCIT model does.")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("reference")
    verb.add_argument("folder", type=Path, help="output_dir of the run")
    verb.add_argument("--model", help="base model (default: the one that the run names)")
    verb.add_argument("--weights", help="as fcit_export_weights")
    verb.add_argument("--to", required=True, help="file to write")
    verb.set_defaults(run=reference)
    verb = verbs.add_parser("compare")
    verb.add_argument("exported", help="export_dir")
    verb.add_argument("reference", help="file that the other verb wrote")
    verb.add_argument("--tolerance", type=float, default=1e-4)
    verb.set_defaults(run=compare)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
