"""What the shapes of a 7B model cost on the device: routed answers, and the server's side of a round."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from ..adapters.lora import Tensors, read_subspace
from ..adapters.stacked import attach
from .bench import Bench
from .check import hold

SUBSPACES, RANK, PREFILL, BATCH = 8, 8, 256, 8
#: Routed time over that of one LoRA, at most.
MOST = 1.15
#: Layers that a model of 7B has, and those that are measured.
LAYERS, MEASURED = 32, 4


def _model(bench: Bench) -> Any:
    """Four layers of a 7B with a LoRA on all linear ones; on a CPU, which is too slow for that, small ones."""
    width, inner = (4096, 11008) if bench.is_gpu else (256, 688)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=MEASURED,
        num_attention_heads=width // 128,
    )
    with torch.device(bench.device):
        base = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16)
    made = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"))
    return made.eval().requires_grad_(False)


def _like(state: Tensors, seed: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {key: 0.01 * torch.randn(value.shape, generator=generator) for key, value in state.items()}


@torch.no_grad()
def routed(bench: Bench) -> str:
    """Eight routed subspaces answer at most 1.15 times as slowly as one LoRA."""
    models = {"one": _model(bench), "routed": _model(bench)}
    blank = read_subspace(models["routed"])
    activation = attach(models["routed"], [_like(blank, seed) for seed in range(SUBSPACES)])
    activation.set(torch.softmax(torch.randn(BATCH, SUBSPACES), dim=1))
    repeats = 20 if bench.is_gpu else 3
    ids = torch.randint(1, 1000, (BATCH, PREFILL), device=bench.device)
    caches = {name: model(ids, use_cache=True).past_key_values for name, model in models.items()}

    def prefill(name: str) -> None:
        models[name](ids, use_cache=False)

    def decode(name: str) -> None:
        models[name](ids[:, -1:], past_key_values=caches[name], use_cache=True)
        caches[name].crop(PREFILL)

    told = []
    for title, call, tokens in (("prefill", prefill, BATCH * PREFILL), ("decode", decode, BATCH)):
        seconds = _alternate(bench, call, repeats)
        ratio = median(ours / one for ours, one in zip(seconds["routed"], seconds["one"], strict=True))
        rate = tokens / median(seconds["routed"]) * MEASURED / LAYERS
        told.append(f"{title} {ratio:.2f} of one LoRA, about {rate:,.0f} tokens/s with {LAYERS} layers")
        hold(not bench.is_gpu or ratio <= MOST, f"{told[-1]}, more than {MOST}")
    return "; ".join(told)


def _alternate(bench: Bench, call: Callable[[str], None], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, one LoRA and routed in turn."""
    seconds: dict[str, list[float]] = {"one": [], "routed": []}
    for _ in range(repeats + 2):
        for name, found in seconds.items():
            start = time.perf_counter()
            call(name)
            if bench.is_gpu:
                torch.cuda.synchronize()
            found.append(time.perf_counter() - start)
    return {name: found[2:] for name, found in seconds.items()}


def training(bench: Bench) -> str:
    """A step of a 7B's shapes is finite; its tokens a second."""
    model = _model(bench)
    weights = [weight.requires_grad_(True) for name, weight in model.named_parameters() if "lora_" in name]
    model.train()
    optimizer = torch.optim.AdamW(weights, lr=1e-4)
    ids = torch.randint(1, 1000, (BATCH, PREFILL), device=bench.device)
    seconds = []
    for _ in range(8 if bench.is_gpu else 2):
        start = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        hold(bool(loss.isfinite()), "the loss is not finite")  # and waits for the GPU
        seconds.append(time.perf_counter() - start)
    return f"about {BATCH * PREFILL / median(seconds[1:]) * MEASURED / LAYERS:,.0f} tokens/s with {LAYERS} layers"


def server(bench: Bench) -> str:
    """The server's side of a round, five clients with a 7B's shapes, takes at most 15 CPU seconds."""
    from .server_round import seconds_of_round

    layers = LAYERS if bench.is_gpu else 2
    seconds = seconds_of_round(layers)
    told = f"{seconds:.1f} CPU seconds, {layers} layers"
    hold(seconds <= 15, told)
    return told
