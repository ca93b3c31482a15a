"""Checks of answers: routed, offloaded, exported, through projectors of their own."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer, PreTrainedModel

from ..samples.mini.build import base_model_path
from ..samples.text import text_model_path
from ..serving.trained import TrainedRun
from .bench import Bench
from .check import hold
from .results import weights_of

QUESTIONS = ("What is the last letter of b, k, x?", "Are these in order: a, f, k?", "What is 3 + 4?", "The last of c, d?")


def _trained(bench: Bench, here: bool = True) -> tuple[Path, dict[str, Any]]:
    """A run on the embedded Llama whose two subspaces matter: a high rate for a few steps.

    Args:
        bench: The bench.
        here: Whether in this process; one that sees two GPUs would use both.
    """
    keys = bench.text("run", fcit_eval_every="never", learning_rate=1e-2)
    with torch.enable_grad():
        return (bench.train_here if here else bench.train)(keys), keys


def _base(bench: Bench, dtype: torch.dtype = torch.float32, **how: Any) -> PreTrainedModel:
    how = how or {"device_map": {"": bench.device}}
    return AutoModelForCausalLM.from_pretrained(text_model_path(), dtype=dtype, **how).eval()


def _by_peft(base: PreTrainedModel, run: Path, weights: Sequence[float]) -> PeftModel:
    """PEFT's own concatenation of the subspaces, as the reference for fixed weights."""
    names = [f"k{k}" for k in range(len(weights))]
    model = PeftModel.from_pretrained(base, str(run / "subspaces" / "0"), adapter_name=names[0])
    for k, name in list(enumerate(names))[1:]:
        model.load_adapter(str(run / "subspaces" / str(k)), adapter_name=name)
    model.add_weighted_adapter(names, list(weights), adapter_name="sum", combination_type="cat")
    model.set_adapter("sum")
    return model.eval()


def _prompts(device: str) -> dict[str, torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(text_model_path(), padding_side="left")
    return dict(tokenizer(list(QUESTIONS), return_tensors="pt", padding=True).to(device))


@torch.no_grad()
def routed(bench: Bench) -> str:
    """Each row of a mixed bfloat16 batch is answered as by PEFT's weighted sum of the subspaces."""
    run, _ = _trained(bench)
    trained, dtype = TrainedRun.read(run), torch.bfloat16
    count = len(trained.state.subspaces)
    hold(count == 2, f"the run opened {count} subspaces")
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.9, 0.2]])
    inputs = _prompts(bench.device)
    model, activation = trained.stacked(_base(bench, dtype))
    model.eval()
    activation.set(weights)
    found = model(**inputs).logits.float()
    reference = [_by_peft(_base(bench, dtype), run, row.tolist())(**inputs).logits[i].float() for i, row in enumerate(weights)]
    plain = _base(bench, dtype)(**inputs).logits.float()
    apart = max((one - other).abs().max().item() for one, other in zip(found, reference, strict=True))
    matters = (found - plain).abs().max().item()
    hold(apart < max(0.1 * matters, 0.02), f"logits are {apart:.3f} apart, where the subspaces make {matters:.3f}")
    alone = []
    for i, row in enumerate(weights):
        activation.set(row[None])
        alone.append(model(**{key: value[i : i + 1] for key, value in inputs.items()}).logits[0].float())
    mixed = max((one - other).abs().max().item() for one, other in zip(found, alone, strict=True))
    hold(mixed < max(0.1 * matters, 0.02), f"a mixed batch is {mixed:.3f} from single prompts")
    activation.set(weights, expands=True)
    beams = model.generate(**inputs, max_new_tokens=4, num_beams=2, do_sample=False)
    hold(beams.shape[0] == len(QUESTIONS), "generation with beams lost prompts")
    return f"PEFT {apart:.4f}, mixed batch {mixed:.4f} apart, of {matters:.2f}"


def chat(bench: Bench) -> str:
    """LLaMA-Factory's chat gives two threads at a time the answers that one gets."""
    from llamafactory.chat import ChatModel

    run, keys = _trained(bench)
    os.environ["MAX_CONCURRENT"] = "2"  # LLaMA-Factory's, by default 1
    given = {key: keys[key] for key in ("model_name_or_path", "template", "default_system")}
    model = ChatModel({**given, "adapter_name_or_path": str(run), "max_new_tokens": 6, "do_sample": False})

    def ask(question: str) -> str:
        return str(model.chat([{"role": "user", "content": question}])[0].response_text)

    alone = [ask(question) for question in QUESTIONS]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(ask, QUESTIONS * 2))
    hold(together == alone * 2, f"threads answered {together}, one by one {alone}")
    return f"{len(together)} answers"


@torch.no_grad()
def offloaded(bench: Bench) -> str:
    """Layers that are offloaded for want of memory answer as those on the device do."""
    run, _ = _trained(bench)
    trained, inputs = TrainedRun.read(run), _prompts(bench.device)
    first, rest = (0, "cpu") if bench.is_gpu else ("cpu", "disk")
    layers = _base(bench).config.num_hidden_layers
    places = {"model.embed_tokens": first, "model.rotary_emb": first, "model.norm": first, "lm_head": first}
    places |= {f"model.layers.{i}": first if i < layers // 2 else rest for i in range(layers)}
    logits = []
    hows: tuple[dict[str, Any], ...] = ({}, {"device_map": places, "offload_folder": str(bench.folder / "disk")})
    for how in hows:
        model, activation = trained.stacked(_base(bench, **how))
        activation.set(torch.eye(2)[[0, 1, 0, 1]])
        logits.append(model.eval()(**inputs).logits.float().cpu())
    apart = (logits[0] - logits[1]).abs().max().item()
    hold(apart < 1e-3, f"logits are {apart:.1e} apart with {layers - layers // 2} of {layers} layers offloaded")
    return f"logits {apart:.1e} apart"


def export(bench: Bench) -> str:
    """A model that is merged on the device has the weights of one that is merged on the CPU."""
    from llamafactory.train.tuner import export_model
    from safetensors.torch import load_file

    run, keys = _trained(bench)
    given = {key: keys[key] for key in ("model_name_or_path", "template", "default_system")}
    given |= {"adapter_name_or_path": str(run), "fcit_export_weights": [0.25, 0.75], "infer_dtype": "float32"}
    merged = []
    for device in ("auto", "cpu"):
        folder = bench.folder / f"merged_{device}"
        export_model({**given, "export_dir": str(folder), "export_device": device})
        merged.append(load_file(folder / "model.safetensors"))
    apart = max((merged[0][key] - value).abs().max().item() for key, value in merged[1].items())
    hold(apart < 1e-4, f"weights are {apart:.1e} apart")
    return f"weights {apart:.1e} apart"


@torch.no_grad()
def own_projectors(bench: Bench) -> str:
    """Images are seen through the projector of their prompt's subspace (`disco_plus`)."""
    with torch.enable_grad():
        run = bench.train_here(bench.mini("run", fcit_method="disco_plus", fcit_eval_every="stage"))
    trained = TrainedRun.read(run)
    hold(len(trained.state.projectors) == 2, f"{len(trained.state.projectors)} subspaces have projectors")
    loaded: Any = AutoModelForImageTextToText.from_pretrained(base_model_path(), dtype=torch.float32)
    base = loaded.to(bench.device).eval()
    size = base.config.vision_config.image_size
    pixels = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(bench.device)
    features = []
    for own in trained.state.projectors:
        base.load_state_dict(own, strict=False)
        features.append(_features(base, pixels))
    trained.put_shared(base)
    model, activation = trained.stacked(base)
    tokens = len(features[0]) // 2
    activation.set(torch.eye(2), image_tokens=[tokens, tokens])
    found = _features(model.get_base_model(), pixels)
    expected = torch.cat([features[0][:tokens], features[1][tokens:]])
    apart = (found - expected).abs().max().item()
    hold(apart < 1e-4, f"features are {apart:.1e} from those of each subspace's own projector")
    hold(not torch.equal(features[0], features[1]), "both projectors are one")
    return f"features {apart:.1e} apart"


def _features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """What LLaVA's projector gives, [tokens of all images, hidden]."""
    strategy = model.config.vision_feature_select_strategy
    given = model.model.get_image_features(pixels, vision_feature_select_strategy=strategy)
    return torch.cat([*getattr(given, "pooler_output", given)]).flatten(0, -2)


def two_devices(bench: Bench) -> str:
    """A model that is spread over two GPUs (`device_map: auto`) answers as on one."""
    run, _ = _trained(bench, here=False)
    trained, inputs = TrainedRun.read(run), _prompts(bench.device)
    layers = _base(bench).config.num_hidden_layers
    places = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.norm": 1, "lm_head": 1}
    places |= {f"model.layers.{i}": int(i >= layers // 2) for i in range(layers)}
    logits = []
    split: tuple[dict[str, Any], ...] = ({}, {"device_map": places})
    for how in split:
        model, activation = trained.stacked(_base(bench, **how))
        activation.set(torch.eye(2)[[0, 1, 0, 1]])
        with torch.no_grad():
            logits.append(model.eval()(**inputs).logits.float().cpu())
    apart = (logits[0] - logits[1]).abs().max().item()
    hold(apart < 1e-3, f"logits are {apart:.1e} apart")
    return f"{len(weights_of(run))} weights, logits {apart:.1e} apart"
