"""What routed subspaces cost in a forward pass, against one plain PEFT LoRA: ``python benchmarks/activation.py``.

One linear layer, float32, batch 1: a decoding step (1 token) and a prefill (256 tokens). The flop ratio is what K subspaces
must cost at least: (in out + K r (in + out)) / (in out + r (in + out)).
"""

import argparse
from collections.abc import Callable
from statistics import median

import torch
from peft import LoraConfig, get_peft_model
from timing import alternate, ratio
from torch import nn

from fcit_plugin.adapters.lora import read_subspace
from fcit_plugin.adapters.stacked import attach

PREFILL = 256


class Layer(nn.Module):
    """A model of one linear layer, whose weight is shared by all that are compared."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.linear.weight = weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, length, in] to [batch, length, out]."""
        return self.linear(x)


def adapted(weight: nn.Parameter, rank: int):
    """The layer with a PEFT LoRA of that rank."""
    model = get_peft_model(Layer(weight), LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["linear"]))
    return model.eval().requires_grad_(False)


def routed(weight: nn.Parameter, rank: int, num_subspaces: int):
    """The layer with K random subspaces, and weights for one sample."""
    model = adapted(weight, rank)
    blank = read_subspace(model)
    activation = attach(model, [{key: torch.randn_like(value) for key, value in blank.items()} for _ in range(num_subspaces)])
    activation.set(torch.softmax(torch.randn(1, num_subspaces), dim=1))
    return model.eval().requires_grad_(False)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["1024x2752", "4096x11008"], help="IN x OUT of the layer")
    parser.add_argument("--subspaces", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--rank", type=int, default=8, help="of one subspace")
    parser.add_argument("--repeats", type=int, default=60)
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, rank {args.rank}, median of {args.repeats} alternating repeats")
    print(f"{'layer':>12} {'K':>3} {'pass':>8} {'PEFT ms':>8} {'ratio':>6} {'flops':>6}")
    for size in args.sizes:
        width, out = map(int, size.split("x"))
        weight = nn.Parameter(torch.randn(out, width) / width**0.5, requires_grad=False)
        plain = adapted(weight, args.rank)
        for k in args.subspaces:
            ours = routed(weight, args.rank, k)
            flops = (width * out + k * args.rank * (width + out)) / (width * out + args.rank * (width + out))
            for name, length in (("decode", 1), ("prefill", PREFILL)):
                seconds = alternate(passes(plain, ours, torch.randn(1, length, width)), args.repeats, warm_up=3)
                found = ratio(seconds["routed"], seconds["PEFT"])
                milliseconds = median(seconds["PEFT"]) * 1e3 / (10 if length == 1 else 1)
                print(f"{size:>12} {k:>3} {name:>8} {milliseconds:>8.3f} {found:>6.2f} {flops:>6.2f}")


def passes(plain, ours, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """One forward pass of each, ten where it is over too soon to be timed alone."""
    times = 10 if x.shape[1] == 1 else 1

    def run(model) -> None:
        with torch.inference_mode():
            for _ in range(times):
                model(x)

    return {"PEFT": lambda: run(plain), "routed": lambda: run(ours)}


if __name__ == "__main__":
    main()
